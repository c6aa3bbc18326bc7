//! Decisions about updates, case by case. The health cycle as a whole is walked in `tests/health`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use gse_protocol::config::boot::{self, Answer};

use super::*;
use crate::facts::{
    Checked, Content, Cycle, Generation, Life, Offer, Refused, Session, Slot, System,
};

fn slot(role: Role, content: Content) -> Slot {
    let session = Session { checked: Some(Checked::Sound), ..Session::default() };
    Slot { device: "/dev/test".to_owned(), role, content, refused: Refused::default(), session }
}

fn system(serial: u64, state: Cycle) -> Content {
    Content::System(System {
        serial: Serial(serial),
        version: serial.to_string(),
        generation: Generation(serial),
        life: Some(Life { state, tries: 1, unclean_shutdowns: 0 }),
    })
}

fn blank() -> Slot {
    slot(Role::Free, Content::Nothing)
}

fn facts(slots: Vec<Slot>, offered: u64) -> Facts {
    let version = offered.to_string();
    let offer = Offer { serial: Serial(offered), version, allow_downgrade: false };
    Facts { slots, offer: Some(offer), ..Facts::default() }
}

fn policy(update: boot::Policy) -> Policy {
    Policy { update, ..Policy::from(&Boot::default()) }
}

fn auto() -> Policy {
    policy(boot::Policy::Auto)
}

#[test]
fn a_blank_machine_installs_whatever_the_policy() {
    for update in [boot::Policy::Ask, boot::Policy::Auto, boot::Policy::Never] {
        let next = next(&facts(vec![blank(), blank()], 1), &policy(update));
        assert_eq!(next, Next::Do(Step::Format(SlotId(0)), Cause::Update));
    }
}

#[test]
fn the_policy_decides_about_an_update() {
    let with = |answer| {
        let slots = vec![slot(Role::System, system(1, Cycle::Closed)), blank()];
        Facts { answer, ..facts(slots, 2) }
    };
    let ask = policy(boot::Policy::Ask);
    assert_eq!(next(&with(None), &ask), Next::Ask);
    let install = Next::Do(Step::Format(SlotId(1)), Cause::Update);
    assert_eq!(next(&with(Some(Answer::Install)), &ask), install);
    assert_eq!(update::kept(&with(Some(Answer::Boot)), &ask), Some(Keep::Declined));
    assert_eq!(update::kept(&with(None), &policy(boot::Policy::Never)), Some(Keep::Policy));
    assert_eq!(next(&with(None), &auto()), install);
}

#[test]
fn outside_the_window_nothing_is_installed_but_where_there_is_nothing() {
    let closed = |slots| Facts { window_closed: true, ..facts(slots, 2) };
    let installed = || vec![slot(Role::System, system(1, Cycle::Closed)), blank()];
    for (update, expected) in [
        (boot::Policy::Auto, Keep::Window),
        (boot::Policy::Ask, Keep::Window),
        (boot::Policy::Never, Keep::Policy),
    ] {
        assert_eq!(update::kept(&closed(installed()), &policy(update)), Some(expected));
    }
    assert_eq!(update::kept(&closed(vec![blank(), blank()]), &auto()), None);
    let mut wiped = closed(installed());
    wiped.slots[0].session.stale = true;
    assert!(matches!(next(&wiped, &Policy { clone: false, ..auto() }), Next::Boot(..)));
    wiped.window_closed = false;
    assert_eq!(next(&wiped, &auto()), Next::Do(Step::Format(SlotId(1)), Cause::Wipe));
}

#[test]
fn a_machine_waits_as_long_as_a_person_can_bear_unless_it_has_nothing_to_start() {
    use gse_protocol::config::boot::WhenBusy::{Boot, Wait};
    for (when_busy, has_system, seconds) in
        [(Wait, true, 600), (Wait, false, 600), (Boot, true, 30), (Boot, false, 600)]
    {
        assert_eq!(update::patience(when_busy, has_system).as_secs(), seconds);
    }
    for (spread, has_system, chance, seconds) in [
        (0, true, u32::MAX, 0),
        (60, true, 0, 0),
        (60, true, u32::MAX / 2, 29),
        (60, true, u32::MAX, 60),
        (21600, true, u32::MAX, 21600),
        (60, false, u32::MAX, 0),
    ] {
        assert_eq!(update::delay(spread, has_system, chance).as_secs(), seconds);
    }
}

#[test]
fn an_older_serial_is_refused_unless_the_release_allows_it() {
    let slots = vec![slot(Role::System, system(5, Cycle::Closed)), blank()];
    let mut facts = facts(slots, 4);
    assert_eq!(update::kept(&facts, &auto()), Some(Keep::Older));
    facts.offer.as_mut().unwrap().allow_downgrade = true;
    assert_eq!(update::kept(&facts, &auto()), None);
    facts.slots[1].refused.insert(Serial(4));
    assert_eq!(update::kept(&facts, &auto()), Some(Keep::Refused));
    facts.offer.as_mut().unwrap().serial = Serial(5);
    assert_eq!(update::kept(&facts, &auto()), Some(Keep::Current));
    facts.offer = None;
    assert_eq!(update::kept(&facts, &auto()), Some(Keep::NoOffer));
}

#[test]
fn the_only_slot_is_not_given_up_for_an_update() {
    let only = |content| facts(vec![slot(Role::System, content)], 2);
    for state in [Cycle::Fresh, Cycle::Open, Cycle::Up, Cycle::Closed] {
        assert_eq!(update::kept(&only(system(1, state)), &auto()), Some(Keep::NoSlot), "{state:?}");
    }
    assert_eq!(update::kept(&only(Content::Broken("forged".to_owned())), &auto()), None);
}

#[test]
fn an_order_to_wipe_is_an_installation_first_and_waits_for_a_release() {
    let ordered = |offered| {
        let mut facts = facts(vec![slot(Role::System, system(3, Cycle::Closed)), blank()], offered);
        facts.slots[0].session.stale = true;
        facts
    };
    let never = Policy { clone: false, ..policy(boot::Policy::Never) };
    // The same release again, whatever the policy; an older one or one that failed here is not good enough.
    let install = Next::Do(Step::Format(SlotId(1)), Cause::Wipe);
    assert_eq!(next(&ordered(3), &never), install);
    let boots = |facts: &Facts| matches!(next(facts, &never), Next::Boot(SlotId(0), _));
    assert!(boots(&ordered(2)));
    let mut refused = ordered(4);
    refused.slots[0].refused.insert(Serial(4));
    assert!(boots(&refused) && wipe::waits(&refused));
    assert!(boots(&Facts { offer: None, ..ordered(3) }));

    // What was made before goes when the new system stands, with or without a server.
    let mut made = ordered(3);
    for step in [Step::Format(SlotId(1)), Step::Install(SlotId(1))] {
        made.apply(step);
    }
    made.offer = None;
    let mut steps = Vec::new();
    while let Next::Do(step, _) = next(&made, &never) {
        made.apply(step);
        steps.push(step);
    }
    let old = SlotId(0);
    let removed = [Step::Relabel(old, Role::Deprived), Step::Format(old)];
    assert!(steps.ends_with(&removed), "{steps:?}");
    assert!(!wipe::waits(&made));
}

#[test]
fn a_last_resort_that_fails_again_and_again_is_announced() {
    for (tries, expected) in [(1, false), (2, false), (3, true)] {
        let Content::System(image) = system(1, Cycle::Open) else { panic!() };
        let life = Some(Life { state: Cycle::Open, tries, unclean_shutdowns: 0 });
        let image = Content::System(System { life, ..image });
        let facts = facts(vec![slot(Role::System, image)], 1);
        let Next::Boot(_, Why::LastResort { pause, .. }) = next(&facts, &auto()) else { panic!() };
        assert_eq!(pause, expected, "{tries} tries");
    }
}

#[test]
fn nothing_to_boot_says_what_is_missing() {
    let rescue = |slots| {
        let Next::Rescue(why) = next(&Facts { slots, ..Facts::default() }, &auto()) else {
            panic!()
        };
        why
    };
    assert_eq!(rescue(vec![]), NothingToBoot::NoSlots);
    assert_eq!(rescue(vec![blank()]), NothingToBoot::Empty);
    let broken = slot(Role::System, Content::Broken("forged".to_owned()));
    assert_eq!(rescue(vec![broken]), NothingToBoot::Broken("/dev/test: forged".to_owned()));
    let deprived = slot(Role::Deprived, system(1, Cycle::Open));
    let sentence = "/dev/test: version 1 failed here".to_owned();
    assert_eq!(rescue(vec![deprived]), NothingToBoot::Broken(sentence));
}

#[test]
fn policies_follow_the_configuration() {
    let boot = Boot::parse("[update]\nmode = \"in-place\"\n[health]\ntries = 3\nclone = false\n");
    let policy = Policy::from(&boot.unwrap());
    assert_eq!((policy.mode, policy.tries, policy.clone), (Mode::InPlace, 3, false));
    // Who need not report never failed to.
    let boot = Boot::parse("[health]\nrequire_report = false\n").unwrap();
    let policy = Policy::from(&boot);
    assert_eq!((policy.tries, policy.unclean_shutdowns), (u32::MAX, u32::MAX));
}

/// What gives way on the way to a decision that is no step.
fn all_that_give_way(mut facts: Facts) -> Vec<GivesWay> {
    facts.offer = None;
    let policy = Policy { clone: false, ..auto() };
    let mut found = Vec::new();
    while let Next::Do(step, cause) = next(&facts, &policy) {
        found.extend(gives_way(&facts, step, &cause));
        facts.apply(step);
    }
    found
}

#[test]
fn a_backup_takes_over_for_a_reason_that_is_told_once() {
    let on = |device: &str, slot: Slot| Slot { device: device.to_owned(), ..slot };
    let backup = || on("/dev/b", slot(Role::Backup, system(1, Cycle::Closed)));
    let told = |first: Slot| all_that_give_way(facts(vec![on("/dev/a", first), backup()], 0));
    let why = |from: Option<usize>, why: &str| {
        vec![GivesWay { to: SlotId(1), from: from.map(SlotId), why: why.to_owned() }]
    };
    let sysfs = |content| slot(Role::System, content);
    let never_up = "it was started and never came up";
    assert_eq!(told(sysfs(system(2, Cycle::Open))), why(Some(0), never_up));
    let damaged = Session { checked: Some(Checked::Damaged("bad".into())), ..Session::default() };
    assert_eq!(
        told(Slot { session: damaged, ..sysfs(system(2, Cycle::Closed)) }),
        why(Some(0), "its filesystem is damaged: bad")
    );
    assert_eq!(
        told(sysfs(Content::Broken("forged".to_owned()))),
        why(Some(0), "SYSFS on /dev/a holds a system that cannot be started (forged)")
    );
    let nothing = why(Some(0), "SYSFS on /dev/a holds no complete system");
    assert_eq!(told(sysfs(Content::Nothing)), nothing);
    let lost = "there is no SYSFS on this machine any more: no system is left on /dev/a";
    assert_eq!(told(blank()), why(None, lost));
    // What a power cut left of a fallback that is on record, or of an update in place.
    assert_eq!(told(slot(Role::Deprived, system(2, Cycle::Open))), []);
    assert_eq!(told(sysfs(system(2, Cycle::Closed))), []);
}
