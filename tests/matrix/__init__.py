"""The matrix of real programs (cargo xtask programs).

    engine   running one case under one side, and what of it is compared
    inputs   what the programs work on, made once
    quick    the cases of every CI run
    heavy    the cases of --full
    refusals programs that cannot run under a preloaded library, and what the user sees
    report   the table, the JSON
"""
