//! `relay tail` goes on where a row is withheld, and says so.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::cli::{healthy, on};
use crate::support::Relay;

#[tokio::test]
async fn a_withheld_row_is_reported_and_the_next_one_is_shown() {
    let database = healthy().await;
    database
        .execute(
            "create function judge(body text) returns boolean language plpgsql as
             $$ begin if body = 'bad' then raise exception 'no'; end if; return true; end $$;
             create policy judged on orders for select to authenticated using (judge(body));",
        )
        .await;
    let relay = Relay::start(&database).await;
    let url = format!("ws://127.0.0.1:{}", relay.port());
    let mut tail = on(&database, &["tail", "orders", "--role", "authenticated", "--url", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(tail.stderr.take().unwrap());
    let mut line = String::new();
    let mut next = |words: &str| {
        line.clear();
        while !line.contains(words) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it said {words:?}");
        }
        line.clone()
    };
    next("Subscribed");
    database.execute("insert into orders values (1, null, 'bad')").await;
    let notice = next("withheld");
    assert!(notice.contains("P0001") && notice.contains("relay check"), "{notice}");
    database.execute("insert into orders values (2, null, 'good')").await;
    let mut shown = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut shown).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(shown.contains("id=2"), "{shown}");
}
