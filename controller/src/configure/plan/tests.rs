#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use gse_protocol::config::bundle::File;
use proptest::prelude::*;

use super::*;
use crate::configure::Wanted;

fn file(text: &str) -> Thing {
    let file = File { mode: 0o644, bytes: text.as_bytes().to_vec() };
    Thing::File(OwnedFile { file, uid: 0, gid: 0 })
}

fn link(target: &str) -> Thing {
    Thing::Link(target.to_owned())
}

fn wishes(things: &[(&str, Thing)]) -> Wishes {
    let wanted = |(path, thing): &(&str, Thing)| Wanted {
        path: (*path).to_owned(),
        thing: thing.clone(),
        force: true,
    };
    Wishes { things: things.iter().map(wanted).collect(), ..Wishes::default() }
}

/// A system with these things, and `etc`.
fn now(things: &[(&str, Thing)]) -> Now {
    let mut now = Now::default();
    set(&mut now, "etc", Current::Directory);
    for (path, thing) in things {
        set(&mut now, path, Current::Is(thing.clone()));
    }
    now
}

fn set(now: &mut Now, path: &str, current: Current) {
    now.at.retain(|(at, _)| at != path);
    if current != NOTHING {
        now.at.push((path.to_owned(), current));
    }
    now.at.sort_by(|a, b| a.0.cmp(&b.0));
}

/// What a system becomes. Kept copies are those of `image`.
fn done(changes: &[Change], now: &Now, image: &Now) -> Now {
    let mut out = now.clone();
    for change in changes {
        match change {
            Change::Keep(_) => {}
            Change::MakeDirectory(path, _) => {
                assert_eq!(out.at(path), &NOTHING);
                set(&mut out, path, Current::Directory);
            }
            Change::Put(path, thing) => set(&mut out, path, Current::Is(thing.clone())),
            Change::Restore(path) => set(&mut out, path, image.at(path).clone()),
            Change::Remove(path) | Change::RemoveDirectory(path) => set(&mut out, path, NOTHING),
        }
    }
    out
}

fn path(path: &str) -> String {
    path.to_owned()
}

#[test]
fn the_images_own_is_kept_before_it_is_replaced() {
    let had = now(&[("etc/a", file("old")), ("etc/l", link("x"))]);
    let wanted = wishes(&[("etc/a", file("new")), ("etc/l", Thing::Nothing)]);
    let plan = plan(&wanted, &Applied::default(), &had).unwrap();
    let expected = [
        Change::Keep(path("etc/a")),
        Change::Put(path("etc/a"), file("new")),
        Change::Keep(path("etc/l")),
        Change::Put(path("etc/l"), Thing::Nothing),
    ];
    assert_eq!(plan.changes, expected);
    assert!(plan.after.file.values().all(|file| file.pristine));
}

#[test]
fn what_the_image_has_already_is_not_the_configurations() {
    let had = now(&[("etc/a", file("same"))]);
    let plan = plan(&wishes(&[("etc/a", file("same"))]), &Applied::default(), &had).unwrap();
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_file_with_another_owner_is_another_file() {
    let Thing::File(mut theirs) = file("x") else { unreachable!() };
    theirs.uid = 5;
    let had = now(&[("etc/a", Thing::File(theirs))]);
    let plan = plan(&wishes(&[("etc/a", file("x"))]), &Applied::default(), &had).unwrap();
    assert_eq!(plan.changes.len(), 2);
}

#[test]
fn what_leaves_the_configuration_goes_back_to_the_images_own() {
    let image = now(&[("etc/a", file("0"))]);
    let wanted = wishes(&[("etc/a", file("x")), ("etc/d/new", link("x"))]);
    let first = plan(&wanted, &Applied::default(), &image).unwrap();
    assert_eq!(first.after.directory, ["etc/d"]);
    let had = done(&first.changes, &image, &image);
    let second = plan(&Wishes::default(), &first.after, &had).unwrap();
    let expected = [
        Change::Restore(path("etc/a")),
        Change::Remove(path("etc/d/new")),
        Change::RemoveDirectory(path("etc/d")),
    ];
    assert_eq!(second.changes, expected);
    assert_eq!(second.after, Applied::default());
    assert_eq!(done(&second.changes, &had, &image), image);
}

#[test]
fn a_directory_is_never_replaced() {
    let found = plan(&wishes(&[("etc", file("x"))]), &Applied::default(), &now(&[]));
    assert_eq!(found, Err(PlanError::IsDirectory(path("etc"))));
}

#[test]
fn missing_directories_are_made_from_the_top() {
    let mut wanted = wishes(&[("etc/deep/er/x", file("x"))]);
    wanted.directories.push((path("user-data"), Directory::default()));
    let own = Directory { mode: 0o700, uid: 1, gid: 2 };
    wanted.directories.push((path("home/me/.ssh"), own));
    let plan = plan(&wanted, &Applied::default(), &now(&[])).unwrap();
    let made: Vec<_> = plan
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::MakeDirectory(path, directory) => Some((path.as_str(), directory.mode)),
            _ => None,
        })
        .collect();
    let expected = [
        ("etc/deep", 0o755),
        ("etc/deep/er", 0o755),
        ("home", 0o755),
        ("home/me", 0o755),
        ("user-data", 0o755),
        ("home/me/.ssh", 0o700),
    ];
    assert_eq!(made, expected);
}

#[test]
fn a_link_without_force_leaves_what_the_image_has() {
    let mut wanted = wishes(&[("etc", link("x")), ("etc/a", link("x")), ("etc/b", link("x"))]);
    wanted.things.iter_mut().for_each(|wanted| wanted.force = false);
    let had = now(&[("etc/a", file("image"))]);
    let plan = plan(&wanted, &Applied::default(), &had).unwrap();
    assert_eq!(plan.changes, [Change::Put(path("etc/b"), link("x"))]);
    assert_eq!(plan.left, ["etc", "etc/a"].map(|taken| Left::Taken(path(taken))));
}

#[test]
fn a_mask_holds_on_to_what_was_applied_until_it_goes() {
    let image = now(&[("etc/a", file("0"))]);
    let one = wishes(&[("etc/a", file("1"))]);
    let first = plan(&one, &Applied::default(), &image).unwrap();
    // Somebody edits the file on the machine, and masks it.
    let mut masked = now(&[("etc/a", file("mine"))]);
    masked.masked.push(path("etc/a"));
    for wanted in [wishes(&[("etc/a", file("2"))]), Wishes::default()] {
        let second = plan(&wanted, &first.after, &masked).unwrap();
        assert_eq!((second.changes, &second.after), (vec![], &first.after));
        assert_eq!(second.left, [Left::Masked(path("etc/a"))]);
    }
    // The mask goes: the configuration's file comes back, or the image's own.
    masked.masked.clear();
    let third = plan(&one, &first.after, &masked).unwrap();
    assert_eq!(third.changes, [Change::Put(path("etc/a"), file("1"))]);
    let fourth = plan(&Wishes::default(), &first.after, &masked).unwrap();
    assert_eq!(fourth.changes, [Change::Restore(path("etc/a"))]);
}

#[test]
fn a_mask_on_what_was_never_applied_leaves_no_record() {
    let mut masked = now(&[("etc/a", file("mine"))]);
    masked.masked.push(path("etc/a"));
    let plan = plan(&wishes(&[("etc/a", file("1"))]), &Applied::default(), &masked).unwrap();
    assert_eq!((plan.changes, plan.after), (vec![], Applied::default()));
}

#[test]
fn locales_come_before_their_list_and_go_with_it() {
    const ARCHIVE: &str = "usr/lib/locale/locale-archive";
    let mut image = now(&[(LOCALE_GEN, file("")), (ARCHIVE, file("none"))]);
    for folder in ancestors(ARCHIVE) {
        set(&mut image, folder, Current::Directory);
    }
    let mut wanted = wishes(&[(LOCALE_GEN, file("de"))]);
    assert!(plan(&wanted, &Applied::default(), &image).unwrap().writes(LOCALE_GEN).is_some());
    wanted.generated = Some(wishes(&[(ARCHIVE, file("de"))]).things);
    let first = plan(&wanted, &Applied::default(), &image).unwrap();
    let put =
        |at: &str| first.changes.iter().position(|c| matches!(c, Change::Put(p, _) if p == at));
    assert!(put(ARCHIVE) < put(LOCALE_GEN));
    let had = done(&first.changes, &image, &image);
    // With the same list they are not made again, and stay.
    wanted.generated = None;
    let second = plan(&wanted, &first.after, &had).unwrap();
    assert_eq!((second.changes, &second.after), (vec![], &first.after));
    let third = plan(&Wishes::default(), &first.after, &had).unwrap();
    assert_eq!(done(&third.changes, &had, &image), image);
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        Just(Thing::Nothing),
        "[01]".prop_map(|text| file(&text)),
        "[xy]".prop_map(|target| link(&target)),
    ]
}

fn things() -> impl Strategy<Value = Vec<(&'static str, Thing)>> {
    let paths = prop::sample::subsequence(vec!["a", "etc/b", "etc/n/c", "etc/n/d", "o/p/q"], 0..=5);
    paths.prop_flat_map(|paths| paths.into_iter().map(|p| (Just(p), thing())).collect::<Vec<_>>())
}

/// A system in which the directories of its things are there.
fn system(things: &[(&str, Thing)]) -> Now {
    let mut now = now(things);
    for (path, thing) in things {
        if *thing != Thing::Nothing {
            for above in ancestors(path) {
                set(&mut now, above, Current::Directory);
            }
        }
    }
    now
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_configurations_is_applied_at_once_and_leaves_the_image_in_the_end(
        image in things(), sequence in prop::collection::vec(things(), 0..5)
    ) {
        let image = system(&image);
        let (mut had, mut applied) = (image.clone(), Applied::default());
        for things in sequence {
            let wanted = wishes(&things);
            let first = plan(&wanted, &applied, &had).unwrap();
            had = done(&first.changes, &had, &image);
            for (path, thing) in &things {
                prop_assert_eq!(had.at(path), &Current::Is(thing.clone()));
            }
            let again = plan(&wanted, &first.after, &had).unwrap();
            prop_assert_eq!((&again.changes, &again.after), (&vec![], &first.after));
            applied = first.after;
        }
        let last = plan(&Wishes::default(), &applied, &had).unwrap();
        prop_assert_eq!(last.after, Applied::default());
        prop_assert_eq!(done(&last.changes, &had, &image), image);
    }
}
