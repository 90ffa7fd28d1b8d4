//! `rcumalloc_set` and `rcumalloc_get`.

use rcumalloc_tests::Victim;

#[test]
fn options_change_while_the_program_runs() {
    let outcome = Victim::new("options").run();
    assert_eq!(outcome.text(), "went on\n", "{outcome}");
    let ours = outcome.ours();
    assert!(ours.len() == 2 && ours.iter().all(|line| line.starts_with("rcumalloc: free(0x")), "{outcome}");
}
