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
    Saved { key, found: Found { position, is_new: false }, minute }
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
    assert_eq!(one.subject(), key("ann", "tab 2").subject());
    assert_ne!(one.subject(), key("bob", "tab").subject());
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

#[test]
fn one_stranger_cannot_push_out_the_places_of_others_who_have_no_subject_either() {
    let resumes = resumes(200);
    let nameless = |resume: &str| Key::new(&Principal::of_role("anon"), resume, &room("room"));
    let keep = |key: Key, caller: u64, minute: u32| {
        let Saved { found, .. } = saved(key, minute);
        let (position, owner, holder) = (Some(found.position), None, Holder::Caller(caller));
        let entry = Entry { position, minute, owner, holder, is_new: false, saved: None };
        let mut state = resumes.lock();
        state.entries.insert(key, entry);
        resumes.make_room(&mut state);
    };
    let few: Vec<Key> = (0..20).map(|number| nameless(&format!("tab {number}"))).collect();
    for (number, key) in few.iter().enumerate() {
        keep(*key, number as u64, 1);
    }
    for id in 0..1000 {
        keep(nameless(&format!("flood {id}")), 99, 1000);
    }
    assert!(few.iter().all(|key| resumes.find(*key).is_some()));
    assert!(resumes.evicted.get() > 800, "{}", resumes.evicted.get());
}
