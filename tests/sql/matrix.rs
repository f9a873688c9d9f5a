//! Every table that was writable is writable after ENABLE and after DISABLE, what ENABLE says of writes is so, and DISABLE
//! gives back the replica identity: for each combination of key, identity, columns and publications.

use super::{psql, psql_file};
use crate::support::Cluster;

const KEYS: [&str; 2] = ["primary key", ""];
const IDENTITIES: [(&str, &str); 3] = [("default", "d"), ("full", "f"), ("nothing", "n")];
/// Another publication of the table.
const OTHERS: [&str; 3] = ["", "table chat_messages (id, body)", "table chat_messages"];
/// How `supabase_realtime` has the table already.
const ENTRIES: [&str; 3] =
    ["", "table chat_messages where (body <> '')", "table chat_messages (id, body)"];
/// Postgres 18 has virtual generated columns, and by default publishes none.
const COLUMNS: [&str; 3] = [
    "",
    ", size int generated always as (length(body)) stored",
    ", size int generated always as (length(body)) virtual",
];

/// A write of each kind, and what it ended with.
const WRITES: &str = "do $$ begin
    insert into chat_messages (id, body) values (1, 'a');
    update chat_messages set body = 'b';
    delete from chat_messages;
    raise notice 'writes: done';
  exception when others then raise notice 'writes: %', sqlerrm;
  end $$;\n";

struct Case {
    name: String,
    identity: &'static str,
    script: String,
}

#[test]
fn what_was_writable_stays_writable_and_what_is_said_is_so() {
    let cluster = Cluster::start(&[]);
    psql(&cluster, "postgres", "\\i sql/SUPABASE_COMPAT.sql\n");
    let version = psql(
        &cluster,
        "postgres",
        "\\pset tuples_only\n\\pset format unaligned\nshow server_version_num;\n",
    );
    let is_18 = version.lines().any(|line| line.parse::<i32>().is_ok_and(|n| n >= 180_000));
    let cases = cases(if is_18 { &COLUMNS } else { &COLUMNS[..1] });
    let script: String = cases.iter().map(|case| case.script.as_str()).collect();
    let settings = "\\set VERBOSITY terse\n\\pset format unaligned\n\\pset footer off\n";
    // In a file: what psql reads from a pipe it reads only as fast as what it prints is read.
    let path = cluster.dir().join("matrix.sql");
    std::fs::write(&path, format!("{settings}{script}")).unwrap();
    let printed = psql_file(&cluster, "postgres", &path.display().to_string());
    let blocks: Vec<&str> = printed.split("## case\n").skip(1).collect();
    assert_eq!(blocks.len(), cases.len(), "{printed}");
    for (case, block) in cases.iter().zip(blocks) {
        judge(case, block);
    }
}

fn judge(case: &Case, block: &str) {
    let name = &case.name;
    assert!(!block.contains("ERROR"), "{name}\n{block}");
    let writes: Vec<bool> = block
        .lines()
        .filter_map(|line| line.split_once("writes: "))
        .map(|(_, end)| end == "done")
        .collect();
    let [before, enabled, disabled] = writes[..] else { panic!("{name}\n{block}") };
    assert!(enabled || !before, "ENABLE stopped writes: {name}\n{block}");
    assert!(disabled || !enabled, "DISABLE stopped writes: {name}\n{block}");

    let said = block.lines().find(|line| line.starts_with("chat_messages|")).unwrap();
    let fields: Vec<&str> = said.split('|').collect();
    let [_, published, identity, _, _, ready, why, _] = fields[..] else {
        panic!("{name}\n{said}")
    };
    assert_eq!(why.contains("updates and deletes of"), !enabled, "{name}\n{said}");
    let is_ready = enabled && published.starts_with("yes") && identity == "full" && why.is_empty();
    assert_eq!(ready == "yes", is_ready, "{name}\n{said}");

    // An identity of before that refused writes is not given back where full identity mended them.
    let after = block.lines().find_map(|line| line.strip_prefix("identity ")).unwrap();
    assert!(after == case.identity || !before, "identity {after}: {name}\n{block}");
}

fn cases(columns: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for key in KEYS {
        for (identity, letter) in IDENTITIES {
            for other in OTHERS {
                for entry in ENTRIES {
                    for column in columns {
                        cases.push(case(key, (identity, letter), other, entry, column));
                    }
                }
            }
        }
    }
    cases
}

fn case(
    key: &str,
    (identity, letter): (&str, &'static str),
    other: &str,
    entry: &str,
    column: &str,
) -> Case {
    let publication = |name: &str, what: &str| {
        if what.is_empty() {
            String::new()
        } else {
            format!("create publication {name} for {what};\n")
        }
    };
    let script = format!(
        "\\echo '## case'
         set client_min_messages = warning;
         drop table if exists chat_messages;
         drop publication if exists other;
         drop publication if exists supabase_realtime;
         reset client_min_messages;
         create table chat_messages (id int {key}, session_id uuid, created_at timestamptz, read_at timestamptz, body text{column});
         alter table chat_messages enable row level security;
         create policy p on chat_messages for select using (true);
         grant select on chat_messages to authenticated;
         alter table chat_messages replica identity {identity};
         {other}{entry}{WRITES}\\i sql/ENABLE_REALTIME_CHAT.sql
         {WRITES}\\i sql/DISABLE_REALTIME_CHAT.sql
         {WRITES}select 'identity ' || relreplident::text as state from pg_class where oid = 'chat_messages'::regclass;\n",
        other = publication("other", other),
        entry = publication("supabase_realtime", entry),
    );
    let name = format!("[{key}] [{identity}] [{other}] [{entry}] [{column}]");
    Case { name, identity: letter, script }
}
