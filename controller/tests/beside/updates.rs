//! Plans, and what is fetched for the next start.

use super::*;

#[test]
fn a_plan_says_what_comes_from_where_and_changes_nothing() {
    for kind in KINDS {
        let (filesystem, machine) = (kind.0, Machine::new(kind, right));
        let before = [machine.bytes(1), machine.bytes(2)];
        let plan = machine.plan();
        assert_eq!((plan.installed.as_str(), plan.offered.as_str()), ("1", "2"));
        assert_eq!(plan.servers, [machine.server.url()]);
        assert_eq!(plan.slot, Some(machine.partition(2).display().to_string()));
        assert!(plan.wanted && !plan.waiting && plan.why.is_none());
        let costs = plan.costs.unwrap();
        assert_eq!(
            (costs.local.files, costs.local.bytes, costs.local.fetched),
            (39, 39 * 20_000, 0)
        );
        assert_eq!((costs.image.files, costs.image.bytes), (1, 50_000));
        // The file, and what shares its frames of a hundred thousand bytes.
        assert!((50_000..=210_000).contains(&costs.image.fetched), "{costs:?}");
        let json: serde_json::Value = serde_json::to_value(&plan).unwrap();
        assert_eq!(json.pointer("/costs/local/bytes").unwrap(), 39 * 20_000);
        assert_eq!(json["offered_serial"], 2);
        let text = plan.to_string();
        for line in [
            "offered    version 2 (serial 2)\n",
            "local      39 files, 0.8 MiB, ",
            "it is installed\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(before, [machine.bytes(1), machine.bytes(2)], "{filesystem}");
        let asked = machine.server.requests();
        let image: Vec<_> = asked.iter().filter(|request| request.path == "image").collect();
        assert!(image.iter().all(|r| r.last == Some(0)), "{image:?}");
    }
}

#[test]
fn a_plan_says_why_nothing_is_to_be_done() {
    let machine = Machine::new(EXT4, right);
    machine.configure("[update]\npolicy = \"never\"\n");
    let plan = machine.plan();
    assert!(!plan.wanted && plan.costs.is_some());
    assert!(plan.why.unwrap().contains("update.policy is \"never\""));
    machine.publish(1, |_| {});
    let plan = machine.plan();
    assert_eq!((plan.wanted, plan.costs, plan.slot), (false, None, None));
    assert_eq!(plan.why.unwrap(), "version 1 is the newest");
    // Nobody's word but that of a trusted key.
    machine.server.put("latest.toml.minisig", Signer::new().sign(Kind::Release, 2, b"").as_bytes());
    let error = format!("{:#}", machine.ask(update::plan).unwrap_err());
    assert!(error.contains("no server has a release that can be used"), "{error}");
}

#[test]
fn a_release_is_fetched_beside_the_running_system_for_the_next_start() {
    for kind in KINDS {
        let machine = Machine::new(kind, right);
        let before = machine.bytes(1);
        assert_eq!(machine.fetch().unwrap(), WAITS);
        assert_eq!(machine.label(2), "INCOMING");
        machine.second(|top| {
            let records = Records::open(top).unwrap().unwrap();
            let slot = records.slot().unwrap().unwrap();
            assert!(slot.complete);
            assert_eq!(slot.generation, Generation(2));
            assert_eq!(records.cycle().unwrap().unwrap().state, CycleState::Fresh);
        });
        machine.is_in_second();
        assert_eq!(before, machine.bytes(1), "the running system was written to");
        let plan = machine.plan();
        assert!(plan.waiting && plan.costs.is_none(), "{plan:?}");

        // Once is enough, until there is a newer one.
        let asked = machine.server.requests().len();
        assert_eq!(machine.fetch().unwrap(), WAITS);
        let again = machine.server.requests().split_off(asked);
        assert!(again.iter().all(|request| request.path.starts_with("latest.toml")), "{again:?}");
        machine.publish(3, |tree| fs::write(tree.join("usr/newer"), "newer").unwrap());
        assert_eq!(machine.fetch().unwrap(), WAITS);
        machine.is_in_second();
    }
}

#[test]
fn what_a_next_start_would_not_give_up_is_not_written_over() {
    let machine = Machine::new(EXT4, right);
    // The backup has proven itself, and the running system has not yet.
    run(Command::new("dd")
        .arg(format!("if={}", machine.partition(1).display()))
        .arg(format!("of={}", machine.partition(2).display()))
        .args(["bs=1M", "status=none"]));
    run(Command::new("e2fsck").args(["-f", "-y"]).arg(machine.partition(2)));
    run(Command::new("tune2fs").args(["-L", "BACKUPFS", "-U", "random"]).arg(machine.partition(2)));
    let closed = Life { state: CycleState::Closed, tries: 0, unclean_shutdowns: 0 };
    let cycle = CycleRecord::new(Serial(1), closed, String::new());
    machine.second(|top| Records::create(top).unwrap().set_cycle(&cycle).unwrap());
    machine.came_from(Some(Life::FRESH));
    let before = [machine.bytes(1), machine.bytes(2)];
    assert!(machine.fetch().unwrap().contains("yet to shut down cleanly"));
    assert!(BootReport::load(&machine.info()).unwrap().backup.is_some());
    let other = fs::File::create(machine.info().join("update.lock")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    assert!(machine.fetch().unwrap_err().contains("at this moment"));
    drop(other);
    machine.configure("[update]\nwindow = \"00:00-00:01\"\n");
    let closed = !config::Boot::parse("[update]\nwindow = \"00:00-00:01\"\n")
        .unwrap()
        .update
        .window
        .is_open(gse_controller::clock::now());
    if closed {
        assert!(machine.fetch().unwrap().contains("update.window is closed"));
    }
    machine.configure("");
    fs::remove_file(machine.info().join("health.json")).unwrap();
    assert!(machine.fetch().unwrap_err().contains("has not reported that it is healthy"));
    assert_eq!(before, [machine.bytes(1), machine.bytes(2)]);
    // As soon as it has, the backup is one too many.
    machine.configure("");
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!((machine.label(1).as_str(), machine.label(2).as_str()), ("SYSFS", "INCOMING"));
    assert_eq!(BootReport::load(&machine.info()).unwrap().backup, None);
}

/// Whether somebody waits for a lock on this file: proc_locks(5).
fn is_awaited(file: &fs::File) -> bool {
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|lock| lock.contains("-> FLOCK") && lock.contains(&inode))
}

#[test]
fn the_service_waits_for_a_person_who_looks_at_the_plan() {
    let machine = Machine::new(EXT4, right);
    machine.configure("[update]\nbackground = false\n");
    let person = fs::File::create(machine.info().join("update.lock")).unwrap();
    flock(&person, FlockOperation::LockExclusive).unwrap();
    let place = Place { info: machine.info(), root: machine.root() };
    let service = thread::spawn(move || update::serve(&place, &Arc::new(Log::aside())));
    while !is_awaited(&person) {
        assert!(!service.is_finished(), "{:?}", service.join());
        thread::yield_now();
    }
    drop(person);
    service.join().unwrap().unwrap();
}

#[test]
fn a_fetch_that_breaks_leaves_nothing_that_counts_and_is_done_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let machine = Machine::new(EXT4, move |request: &Request| {
        let content = request.path == "image" && request.last != Some(0);
        if content && breaks.load(Ordering::SeqCst) { Answer::Status(404) } else { Answer::Right }
    });
    let before = machine.bytes(1);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("no server gives more"), "{error}");
    assert_eq!(machine.label(2), "INCOMING");
    machine.second(|top| {
        let slot = Records::open(top).unwrap().and_then(|records| records.slot().unwrap());
        assert!(slot.is_none_or(|slot| !slot.complete));
    });
    broken.store(false, Ordering::SeqCst);
    assert_eq!(machine.fetch().unwrap(), WAITS);
    machine.is_in_second();
    assert_eq!(before, machine.bytes(1));
}

/// A machine that does not like to wait for busy servers, and a server that is busy once, for longer than that, when it is
/// asked for this; the file is gone afterwards if `then` says so.
fn busy_once(asked_for: fn(&Request) -> bool, then: Answer) -> Machine {
    let asked = AtomicUsize::new(0);
    let machine = Machine::new(EXT4, move |request: &Request| match asked_for(request) {
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Busy(31),
        true => then.clone(),
        false => Answer::Right,
    });
    machine.configure("[update]\nwhen_busy = \"boot\"\n");
    machine
}

#[test]
fn once_a_slot_is_given_up_a_busy_server_is_waited_for() {
    let content = |request: &Request| request.path == "image" && request.last != Some(0);
    let machine = busy_once(content, Answer::Right);
    assert_eq!(machine.fetch().unwrap(), WAITS);
    machine.is_in_second();
}

#[test]
fn patches_that_a_server_is_too_busy_for_are_waited_for_too() {
    let patch = |request: &Request| request.path == "from-1.patch";
    let machine = busy_once(patch, Answer::Status(404));
    let mut image = machine.pack(2);
    let index = Sha256::of(&machine.first.index.to_cbor().unwrap());
    let table = Frame { packed: 1000, unpacked: 1000, sha256: index };
    let version = machine.first.index.version.clone();
    image.index.patches = vec![PatchFile { version, index, table: 1, frames: vec![table] }];
    machine.server.put("from-1.patch", &[0; 1000]);
    machine.offer(&image, None, None);
    assert_eq!(machine.fetch().unwrap(), WAITS);
    machine.is_in_second();
    let asked = machine.server.requests().into_iter().filter(patch).count();
    assert_eq!(asked, 2, "it was not asked again when it had time");
}

#[test]
fn a_server_that_is_busy_or_has_no_image_costs_no_slot() {
    for (answer, expected) in [(Answer::Busy(3000), "busy"), (Answer::Status(404), "404")] {
        let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
            "image" => answer.clone(),
            _ => Answer::Right,
        });
        machine.configure("[update]\nwhen_busy = \"boot\"\n");
        let before = machine.bytes(2);
        let error = machine.fetch().unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(before, machine.bytes(2));
    }
    // It has not even time for the release.
    let busy = Machine::new(EXT4, |_: &Request| Answer::Busy(3000));
    let before = busy.bytes(2);
    let error = busy.fetch().unwrap_err();
    assert!(error.contains("busy, and asks to come back in 3000 s"), "{error}");
    assert_eq!(before, busy.bytes(2));
    let busy = Machine::new(EXT4, |request: &Request| match request.number {
        0 => Answer::Busy(1),
        _ => Answer::Right,
    });
    assert_eq!(busy.fetch().unwrap(), WAITS);
    let started = std::time::Instant::now();
    let busy = Machine::new(EXT4, |request: &Request| {
        if request.path == "index" && request.number < 8 { Answer::Busy(1) } else { Answer::Right }
    });
    assert_eq!(busy.fetch().unwrap(), WAITS);
    let asked = busy.server.requests().iter().filter(|r| r.path == "index").count();
    assert!(asked > 1 && started.elapsed().as_secs() >= asked as u64 - 1);
}
