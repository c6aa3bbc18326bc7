//! The index of a release, made out of the one that the machine has.

use super::*;

/// A machine that is offered version 2 with what makes its index out of the one that it has, and the sizes of what the
/// server has.
fn with_delta(
    decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (Machine, HashMap<&'static str, u64>) {
    let machine = Machine::new(EXT4, decide);
    let image = machine.pack(2);
    let files = machine.offer(&image, Some(image.since(&machine.first)), None);
    (machine, files.iter().map(|(path, bytes)| (*path, bytes.len() as u64)).collect())
}

impl Machine {
    /// Which of these files a fetch asks for, which has to come out right.
    fn asks_for(&self, paths: [&str; 2]) -> [bool; 2] {
        let begin = self.server.requests().len();
        assert_eq!(self.fetch().unwrap(), WAITS);
        self.is_in_second();
        let asked = self.server.requests().split_off(begin);
        paths.map(|path| asked.iter().any(|request| request.path == path))
    }
}

#[test]
fn an_index_is_made_out_of_the_one_that_the_machine_has() {
    let (machine, sizes) = with_delta(right);
    assert!(sizes["delta"] < sizes["index"] / 4, "{sizes:?}");
    let plan = machine.plan();
    assert_eq!(plan.index, Some(sizes["delta"]));
    assert_eq!(plan.costs.unwrap().local.files, 39);
    assert_eq!(machine.asks_for(["delta", "index"]), [true, false]);
    // The slot keeps what comes out, from which the next one is made.
    let second = machine.pack(2);
    let cbor = machine.second(|top| fs::read(top.join(".gse/index.cbor")).unwrap());
    assert!(cbor == second.index.to_cbor().unwrap());
}

#[test]
fn what_does_not_make_the_index_is_passed_over_and_the_whole_is_fetched() {
    for answer in [
        Answer::Status(404),
        Answer::Flip(100),
        Answer::Instead(b"not zstd".to_vec()),
        Answer::Gzip,
    ] {
        let given = answer.clone();
        let (machine, sizes) = with_delta(move |request| match &*request.path {
            "delta" => given.clone(),
            _ => Answer::Right,
        });
        assert_eq!(machine.plan().index, Some(sizes["index"]), "{answer:?}");
        assert_eq!(machine.asks_for(["delta", "index"]), [true, true], "{answer:?}");
    }
    // One that was signed, and makes another index.
    let (machine, sizes) = with_delta(right);
    let (right, mut other) = (machine.pack(2), machine.pack(2));
    other.index.name = "other".to_owned();
    machine.offer(&right, Some(other.since(&machine.first)), None);
    assert_eq!(machine.plan().index, Some(sizes["index"]));
    assert_eq!(machine.asks_for(["delta", "index"]), [true, true]);
}

#[test]
fn an_index_that_is_cut_goes_on_where_it_was_and_one_that_came_wrong_is_fetched_again() {
    for (answer, from) in [(Answer::CutAfter(200), Some(200)), (Answer::Flip(200), None)] {
        let asked = AtomicUsize::new(0);
        let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
            "index" if asked.fetch_add(1, Ordering::SeqCst) == 0 => answer.clone(),
            _ => Answer::Right,
        });
        assert_eq!(machine.fetch().unwrap(), WAITS);
        machine.is_in_second();
        let mut asked = machine.server.requests();
        asked.retain(|request| request.path == "index");
        let [first, second] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((first.from, second.from.filter(|from| *from > 0)), (None, from));
    }
}

#[test]
fn an_index_that_was_damaged_on_disk_makes_nothing() {
    let (machine, sizes) = with_delta(right);
    let mount = |how| run(Command::new("mount").args(["-o", how]).arg(machine.root()));
    mount("remount,rw");
    let kept = machine.root().join(".gse/index.cbor");
    let mut bytes = fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).unwrap();
    mount("remount,ro");
    assert_eq!(machine.plan().index, Some(sizes["index"]));
    assert_eq!(machine.asks_for(["delta", "index"]), [false, true]);
}

#[test]
fn a_server_that_is_too_busy_for_a_part_is_not_asked_for_the_whole() {
    let (machine, _) = with_delta(|request| match &*request.path {
        "delta" => Answer::Busy(3000),
        _ => Answer::Right,
    });
    machine.configure("[update]\nwhen_busy = \"boot\"\n");
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("busy"), "{error}");
    assert!(machine.server.requests().iter().all(|request| request.path != "index"));
}
