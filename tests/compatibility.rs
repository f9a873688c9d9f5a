//! The README's account of the protocol is written from `checklist.txt`, `refusals.txt` and the list of SDKs, so that it
//! cannot say anything else. `make readme` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use crate::checklist::{CHAPTERS, items};
use crate::refusals::refusals;

const BEGIN: &str = "<!-- compatibility: written by `make readme` -->\n";
const END: &str = "<!-- compatibility: end -->\n";

#[test]
fn the_readme_says_what_the_data_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the first mark");
    let (_, after) = rest.split_once(END).expect("the README has the second mark");
    let versions = std::fs::read_to_string(root.join("tests/clients/versions.txt"));
    let account = account(versions.ok().as_deref());
    let expected = format!("{before}{BEGIN}{account}{END}{after}");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, expected).unwrap();
    } else {
        assert!(readme == expected, "README.md is not what the data says; run `make readme`");
    }
}

fn account(versions: Option<&str>) -> String {
    let mut text = String::new();
    chapters(&mut text);
    choices(&mut text);
    texts(&mut text);
    if let Some(versions) = versions {
        text.push_str(&sdks(versions));
    }
    text
}

/// So many items of each weight, chapter by chapter. That each has a test is tested; that each passes, too.
fn chapters(text: &mut String) {
    text.push_str(
        "| chapter | items | an unmodified client needs it | visible behaviour of the original | left to choice |\n\
         |---|--:|--:|--:|--:|\n",
    );
    let items = items();
    let mut row = |name: &str, from: usize, to: usize| {
        let count = |weight: &str| {
            let has = items.iter().filter(|item| (from..=to).contains(&item.number));
            match has.filter(|item| item.weight == weight).count() {
                0 => "–".to_owned(),
                count => count.to_string(),
            }
        };
        let [must_c, must_s, may] = ["MUST-C", "MUST-S", "MAY"].map(count);
        writeln!(text, "| {name} | {from}–{to} | {must_c} | {must_s} | {may} |").unwrap();
    };
    let mut from = 1;
    for (name, to) in CHAPTERS {
        row(name, from, to);
        from = to + 1;
    }
    row("**all, each with a passing test**", 1, from - 1);
}

/// What was chosen where the original's quirk need not be kept.
fn choices(text: &mut String) {
    text.push_str("\nLeft to choice, and chosen:\n\n");
    for item in items().iter().filter(|item| item.weight == "MAY") {
        let (quirk, chosen) = item.note.split_once("; chosen: ").expect("a choice");
        writeln!(text, "- {} ({quirk}): {chosen}.", item.number).unwrap();
    }
}

/// How many texts are the original's, and why the others cannot occur.
fn texts(text: &mut String) {
    let refusals = refusals();
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for reason in refusals.iter().filter_map(|refusal| refusal.shown.as_ref().err()) {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    let told = refusals.len() - reasons.iter().map(|(_, count)| count).sum::<usize>();
    let reasons: Vec<_> =
        reasons.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
    write!(
        text,
        "\nOf the {} texts with which the original refuses or informs, {told} are told in the same words, each with a \
         test ([`tests/refusals.txt`](tests/refusals.txt)).\nThe others cannot occur: {}.\n",
        refusals.len(),
        reasons.join("; ")
    )
    .unwrap();
}

/// The SDKs that are run, newest of each package first, as their list has them.
fn sdks(versions: &str) -> String {
    let date = versions.split("As of ").nth(1).and_then(|rest| rest.split(':').next());
    let mut text = format!(
        "\nSDKs that are run unmodified against the relay (`make test-clients`), as of {}:\n\n\
         | package | version | published | protocol |\n|---|---|---|---|\n",
        date.expect("the list is dated")
    );
    for line in versions.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<_> = line.split('\t').collect();
        let [_, package, version, published, protocol, ..] = fields[..] else {
            panic!("five fields: {line:?}")
        };
        writeln!(text, "| `{package}` | {version} | {published} | {protocol} |").unwrap();
    }
    text
}

#[test]
fn the_list_of_sdks_is_read_when_it_is_there() {
    let list = "# As of 2026-11-21: the versions\n#\nnewest\t@a/b\t2.1.0\t2026-11-04\t2.0.0\t-\n";
    let expected = "\nSDKs that are run unmodified against the relay (`make test-clients`), as of 2026-11-21:\n\n\
         | package | version | published | protocol |\n|---|---|---|---|\n\
         | `@a/b` | 2.1.0 | 2026-11-04 | 2.0.0 |\n";
    assert_eq!(sdks(list), expected);
}
