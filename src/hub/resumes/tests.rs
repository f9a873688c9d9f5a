use super::*;
use crate::model::{Epoch, Lsn};

fn room(topic: &str) -> RoomName {
    RoomName { namespace: Namespace::Public, topic: topic.into() }
}

fn key(subject: &str, resume: &str) -> Key {
    let principal = Principal::new("anon", format!(r#"{{"sub":"{subject}"}}"#));
    Key::new(&principal, resume, &room("room"))
}

fn saved(key: Key, minute: u32) -> Saved {
    let position = Position { epoch: Epoch::new(1), commit_lsn: Lsn::new(7), index: 0 };
    Saved { key, position, minute }
}

fn resumes(most: usize) -> Resumes {
    Resumes { most, ..Resumes::new(Counter::default()) }
}

#[test]
fn keys_tell_subjects_ids_and_rooms_apart() {
    let principal = Principal::new("anon", r#"{"sub":"ann"}"#);
    let one = key("ann", "tab");
    assert_eq!(one, Key::new(&principal, "tab", &room("room")));
    assert_ne!(one, Key::new(&principal, "tab", &room("other")));
    assert_ne!(one, key("ann", "tab 2"));
    assert_ne!(one, key("bob", "tab"));
    assert_eq!(one.holder(), key("ann", "tab 2").holder());
    assert_ne!(one.holder(), key("bob", "tab").holder());
}

#[test]
fn one_subject_cannot_push_out_the_places_of_others() {
    let resumes = resumes(200);
    let few: Vec<Key> = (0..20).map(|number| key(&format!("{number}"), "tab")).collect();
    resumes.load(few.iter().map(|key| saved(*key, 1)));
    for round in 0..10 {
        let flood = (0..100).map(|id| saved(key("flood", &format!("{round} {id}")), 1000));
        resumes.load(flood);
        assert!(resumes.len() < 200, "{}", resumes.len());
    }
    assert!(few.iter().all(|key| resumes.find(*key).is_some()));
    assert!(resumes.evicted.get() > 800, "{}", resumes.evicted.get());
}

#[test]
fn among_equals_the_oldest_is_forgotten() {
    let resumes = resumes(200);
    let keys: Vec<Key> = (0..200).map(|number| key(&format!("{number}"), "tab")).collect();
    resumes.load(keys.iter().enumerate().map(|(at, key)| saved(*key, at as u32)));
    assert_eq!((resumes.len(), resumes.evicted.get()), (197, 3));
    assert_eq!(keys.iter().position(|key| resumes.find(*key).is_some()), Some(3));
}
