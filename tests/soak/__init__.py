"""The soak (cargo xtask soak).

    load     the programs under load, and what they do meanwhile
    verdict  what the figures must be like at the end
    picture  the figures as a picture
"""
