//! docs/trust.md and the README say only what is so: its figures are those of the runs kept beside it, and the tests it names are there.

use std::fs;

use bull_tests::soak::report::{document, kept, put, readme};
use bull_tests::soak::tables::{summary, tables};
use bull_tests::workspace;

#[test]
fn the_figures_are_those_of_the_runs() {
    let text = fs::read_to_string(document()).expect("docs/trust.md");
    let runs = fs::read_to_string(kept()).expect("docs/trust.jsonl");
    let tables = tables(&runs).expect("lines of JSON");
    assert!(put(&text, &tables).expect("a place for the figures") == text, "run scripts/soak report");
    let readme = fs::read_to_string(readme()).expect("README.md");
    let summary = summary(&runs).expect("lines of JSON");
    assert!(put(&readme, &summary).expect("a place for the figures") == readme, "run scripts/soak report");
    for failure in ["\"lost\":1", "\"doubled\":1", "\"diverged\":1", "\"crashes\":1"] {
        assert!(!runs.contains(failure), "a run has {failure}");
    }
}

#[test]
fn the_tests_it_names_are_there() {
    let text = fs::read_to_string(document()).expect("docs/trust.md");
    let named: Vec<&str> = text.split('`').filter(|word| word.ends_with(".rs")).collect();
    assert!(named.len() > 20, "only {named:?}");
    for name in named {
        assert!(workspace().join("tests/tests").join(name).exists(), "docs/trust.md names {name}");
    }
}
