//! Images, of which more than one server is asked.

use super::*;

const QUICK: Retry = Retry {
    rounds: 3,
    pause: Duration::ZERO,
    progress: 1000,
    back: Duration::from_secs(3600),
    busy: Duration::from_secs(5),
};

/// Where in the image, and on which server, reading went on.
type Switches = Vec<(u64, String)>;

/// Reads a whole image.
fn read(client: Client, servers: &[&Server], size: usize) -> (Result<Vec<u8>, String>, Switches) {
    let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
    let switches = Mutex::new(Vec::new());
    let mut bytes = Vec::new();
    let mut image = RemoteImage::new(client, &urls, "file", size as u64, QUICK, |switch| {
        switches.lock().unwrap().push((switch.at, switch.next.to_owned()));
    });
    let done = image.read_to_end(&mut bytes).map_err(|e| e.to_string());
    if done.is_ok() {
        assert_eq!(image.received(), size as u64);
    }
    drop(image);
    (done.map(|_| bytes), switches.into_inner().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn connections_that_break_anywhere_are_resumed_at_that_byte(
        cuts in prop::collection::vec(0_usize..40_000, 1..6),
        ignores in any::<bool>(),
    ) {
        let file = tree::noise(5, 100_000);
        let first_cut = cuts[0];
        let first = Server::new(&[("file", &file)], move |r: &Request| {
            cuts.get(r.number).map_or(Answer::Right, |cut| Answer::CutAfter(*cut))
        });
        let second = Server::new(&[("file", &file)], move |_| {
            if ignores { Answer::IgnoreRange } else { Answer::Right }
        });
        let (bytes, switches) = read(client(), &[&first, &second], file.len());
        prop_assert!(bytes.unwrap() == file);
        prop_assert_eq!(switches, [(first_cut as u64, second.url())]);
        let from = second.requests()[0].from;
        prop_assert_eq!(from, (first_cut > 0).then_some(first_cut));
    }
}

#[test]
fn one_server_that_breaks_often_is_enough_while_there_is_progress() {
    let file = tree::noise(6, 100_000);
    let server = Server::new(&[("file", &file)], |_| Answer::CutAfter(3_000));
    let (bytes, switches) = read(client(), &[&server], file.len());
    assert!(bytes.unwrap() == file);
    assert_eq!(switches.len(), 33);
}

#[test]
fn servers_that_hang_refuse_or_send_another_range_are_left_for_the_next() {
    let file = tree::noise(7, 50_000);
    let serve = |answer: Answer| Server::new(&[("file", &file)], move |_| answer.clone());
    let silent = serve(Answer::HangAfter(10_000));
    let broken = serve(Answer::Status(503));
    let wrong = serve(Answer::WrongRange);
    let hanging = serve(Answer::Hang);
    let good = serve(Answer::Right);
    let servers = [&silent, &broken, &wrong, &hanging, &good];
    let (bytes, switches) = read(impatient(), &servers, file.len());
    assert!(bytes.unwrap() == file);
    let next = servers[1..].iter().map(|s| (10_000, s.url()));
    assert_eq!(switches, next.collect::<Vec<_>>());
}

#[test]
fn a_server_whose_file_has_another_length_is_passed_over_for_good() {
    let file = tree::noise(8, 50_000);
    let other = Server::honest(&[("file", &file[1..])]);
    let good = Server::new(&[("file", &file)], |_| Answer::CutAfter(20_000));
    let (bytes, switches) = read(client(), &[&other, &good], file.len());
    assert!(bytes.unwrap() == file);
    assert_eq!(other.requests().len(), 1);
    assert!(switches.iter().all(|(_, next)| *next == good.url()));

    let (bytes, _) = read(client(), &[&other], file.len());
    let error = bytes.unwrap_err();
    assert!(error.contains("49999 bytes, and the index says 50000"), "{error}");
}

#[test]
fn without_progress_it_is_given_up_with_the_byte_and_the_reason() {
    let file = tree::noise(9, 50_000);
    let serve = |after| {
        Server::new(&[("file", &file)], move |r: &Request| match r.number {
            0 => Answer::CutAfter(after),
            _ => Answer::Status(500),
        })
    };
    let (first, second) = (serve(30_000), serve(0));
    let (bytes, _) = read(client(), &[&first, &second], file.len());
    let error = bytes.unwrap_err();
    assert!(error.contains("stopped at byte 30000 of 50000"), "{error}");
    assert!(error.contains("HTTP status 500"), "{error}");
    // Three rounds of two servers; the first one's first answer was progress.
    assert_eq!(first.requests().len() + second.requests().len(), 6);

    // A byte each time is not progress.
    let dribbling = Server::new(&[("file", &file)], |_| Answer::CutAfter(1));
    let (bytes, _) = read(client(), &[&dribbling], file.len());
    assert!(bytes.unwrap_err().contains("stopped at byte 3 of 50000"));

    let (bytes, _) = read(client(), &[], file.len());
    assert!(bytes.unwrap_err().contains("no server is named"));
}

fn tree_and_image() -> (tempfile::TempDir, std::path::PathBuf, Image) {
    let (folder, original) = disk::folder();
    for number in 0..100 {
        let path = original.join(number.to_string());
        fs::write(path, tree::noise(number, 5000)).unwrap();
    }
    let image = pack::pack(&original, 20_000);
    (folder, original, image)
}

fn install_from(
    image: &Image,
    servers: &[&Server],
) -> Result<(Report, tempfile::TempDir), InstallError> {
    let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
    let size = image.index.packed_size();
    let mut source = RemoteImage::new(client(), &urls, "file", size, QUICK, |_| {});
    let target = tempfile::TempDir::new().unwrap();
    let root = File::open(target.path()).unwrap();
    let limits = Limits::default();
    let report = install(&image.index, &mut source, root.as_fd(), &|_| {}, &limits)?;
    Ok((report, target))
}

#[test]
fn an_image_installs_from_servers_that_cut_and_flip_bits() {
    let (_folder, original, image) = tree_and_image();
    let length = image.tar_zst.len();
    let flipping =
        Server::new(&[("file", &image.tar_zst)], move |r| Answer::Flip(r.number * 997 % length));
    let cutting = Server::new(&[("file", &image.tar_zst)], |_| Answer::CutAfter(33_333));
    let (report, target) = install_from(&image, &[&flipping, &cutting]).unwrap();
    assert!(report.fetched_again >= 1);
    tree::assert_same(&original, target.path());
}

#[test]
fn a_bit_that_flipped_once_on_the_way_is_fetched_again_from_the_only_server() {
    let (_folder, original, image) = tree_and_image();
    let middle = image.tar_zst.len() / 2;
    let server = Server::new(&[("file", &image.tar_zst)], move |r: &Request| {
        if r.number == 0 { Answer::Flip(middle) } else { Answer::Right }
    });
    let (report, target) = install_from(&image, &[&server]).unwrap();
    assert_eq!(report.fetched_again, 1);
    tree::assert_same(&original, target.path());
}

#[test]
fn who_completes_the_bytes_of_a_liar_is_not_taken_for_one() {
    let (_folder, original, image) = tree_and_image();
    let liar = Server::new(&[("file", &image.tar_zst)], |r: &Request| match r.number {
        0 => Answer::FlipAndCut(100, 10_000),
        _ => Answer::Flip(100),
    });
    let honest = Server::honest(&[("file", &image.tar_zst)]);
    let (report, target) = install_from(&image, &[&liar, &honest]).unwrap();
    assert_eq!(report.fetched_again, 1);
    tree::assert_same(&original, target.path());
}

#[test]
fn one_server_of_three_that_has_a_frame_right_is_enough_wherever_it_stands() {
    let (_folder, original, image) = tree_and_image();
    for good in 0..3 {
        let servers = [0, 1, 2].map(|number| {
            Server::new(&[("file", &image.tar_zst)], move |_| match number {
                _ if number == good => Answer::Right,
                0 => Answer::Flip(100),
                _ => Answer::Flip(200),
            })
        });
        let (_, target) = install_from(&image, &servers.each_ref()).unwrap();
        tree::assert_same(&original, target.path());
    }
}

#[test]
fn a_whole_file_is_read_again_from_each_server_until_it_is_right() {
    let file = tree::noise(10, 100_000);
    let lying = || Server::new(&[("file", &file)], |_| Answer::Flip(70_000));
    let (first, without, third) = (lying(), Server::honest(&[]), lying());
    let last = Server::new(&[("file", &file)], |_| Answer::CutAfter(60_000));
    let read = |servers: &[&Server]| {
        let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
        let mut image = RemoteImage::new(client(), &urls, "file", 100_000, QUICK, |_| {});
        let mut bytes = Vec::new();
        let right = image.whole(&mut |from| {
            bytes.clear();
            from.read_to_end(&mut bytes)?;
            Ok(bytes == file)
        });
        right.map_err(|e| e.to_string())
    };
    assert_eq!(read(&[&first, &without, &third, &last]), Ok(true));
    let asked = [&first, &without, &third, &last].map(|server| server.requests().len());
    assert_eq!(asked, [1, 1, 1, 2]);
    assert_eq!(read(&[&first, &without, &third]), Ok(false));
    assert!(read(&[&without]).unwrap_err().contains("HTTP status 404"));
    // What is wrong with the place that it is written to is not the servers' fault.
    let urls = [last.url()];
    let mut image = RemoteImage::new(client(), &urls, "file", 100_000, QUICK, |_| {});
    let full = image.whole(&mut |_| Err(std::io::ErrorKind::StorageFull.into())).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_bit_that_is_flipped_on_all_servers_is_refused() {
    let (_folder, _, image) = tree_and_image();
    let middle = image.tar_zst.len() / 2;
    let serve = || Server::new(&[("file", &image.tar_zst)], move |_| Answer::Flip(middle));
    let error = install_from(&image, &[&serve(), &serve()]).unwrap_err();
    assert!(matches!(error, InstallError::Frame { .. }), "{error}");
}

#[test]
fn an_image_that_no_server_has_whole_is_an_error_that_names_the_last_one() {
    let (_folder, _, image) = tree_and_image();
    let server = Server::honest(&[("file", &image.tar_zst[..1000])]);
    let error = install_from(&image, &[&server]).unwrap_err();
    assert!(matches!(error, InstallError::Source(_)), "{error}");
    assert!(error.to_string().contains(&server.url()), "{error}");
}

/// Installs with a machine's files, of which some are missing; what was requested of each server, and how much of the
/// image came.
fn update_from(
    image: &Image,
    missing: &[usize],
    servers: &[&Server],
    retry: Retry,
) -> Result<u64, String> {
    let (_old, old) = disk::folder();
    for number in (0..100).filter(|number| !missing.contains(number)) {
        fs::write(old.join(number.to_string()), tree::noise(number as u64, 5000)).unwrap();
    }
    let tree = LocalTree::open(&old, &old.join(".gse")).unwrap();
    let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
    let size = image.index.packed_size();
    let mut source = RemoteImage::new(impatient(), &urls, "file", size, retry, |_| {});
    let target = tempfile::TempDir::new().unwrap();
    let root = File::open(target.path()).unwrap();
    let seeds = [Seed::new(&tree, &image.index)];
    let plan = Plan::new(&image.index, &seeds, None).unwrap();
    let sources = FrameSources { patch: None, image: Some(&mut source) };
    let limits = Limits::default();
    make(&plan, sources, root.as_fd(), &|_, _| {}, &limits).map_err(|e| e.to_string())?;
    for number in 0..100 {
        let made = fs::read(target.path().join(number.to_string())).unwrap();
        assert_eq!(made, tree::noise(number, 5000), "{number}");
    }
    Ok(source.received())
}

#[test]
fn only_the_runs_that_are_needed_are_asked_for_and_neighbours_in_one_request() {
    let (_folder, _, image) = tree_and_image();
    // In the order of names: 10, 11 and 12 are neighbours, 90 is far away.
    let missing = [10, 11, 12, 90];
    let server = Server::honest(&[("file", &image.tar_zst)]);
    let received = update_from(&image, &missing, &[&server], QUICK).unwrap();
    assert_eq!(server.requests().len(), 2, "{:?}", server.requests());
    assert!(server.requests().iter().all(|r| r.last.is_some()), "{:?}", server.requests());
    assert!(received < 150_000, "{received} bytes came");
    // Without ranges it comes from the start, and once.
    let server = Server::new(&[("file", &image.tar_zst)], |_| Answer::IgnoreRange);
    update_from(&image, &missing, &[&server], QUICK).unwrap();
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
}

#[test]
fn a_mirror_without_the_file_is_asked_once_and_the_first_server_is_gone_back_to() {
    let (_folder, _, image) = tree_and_image();
    let bytes: &[u8] = &image.tar_zst;
    let without = Server::honest(&[]);
    let good = Server::honest(&[("file", bytes)]);
    update_from(&image, &[10, 50, 90], &[&without, &good], QUICK).unwrap();
    assert_eq!((without.requests().len(), good.requests().len()), (1, 3));

    let first = Server::new(&[("file", bytes)], |request: &Request| match request.number {
        0 => Answer::Status(500),
        _ => Answer::Right,
    });
    let second = Server::honest(&[("file", bytes)]);
    let retry = Retry { back: Duration::ZERO, ..QUICK };
    update_from(&image, &[10, 50, 90], &[&first, &second], retry).unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (4, 0));
    let second = Server::honest(&[("file", bytes)]);
    let first = Server::new(&[("file", bytes)], |_| Answer::Status(500));
    update_from(&image, &[10, 50, 90], &[&first, &second], QUICK).unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 3));
}

#[test]
fn a_server_that_is_busy_is_left_in_peace_for_as_long_as_it_says() {
    let (_folder, _, image) = tree_and_image();
    let busy = |seconds| {
        Server::new(&[("file", &image.tar_zst)], move |request: &Request| {
            if request.number == 0 { Answer::Busy(seconds) } else { Answer::Right }
        })
    };
    let start = Instant::now();
    let server = busy(1);
    update_from(&image, &[10], &[&server], QUICK).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.requests().len(), 2);
    // Another server has time.
    let (server, free) = (busy(3600), busy(0));
    update_from(&image, &[10, 50], &[&server, &free], QUICK).unwrap();
    assert_eq!(server.requests().len(), 1);
    // Nobody has.
    let server = busy(3600);
    let error = update_from(&image, &[10], &[&server], QUICK).unwrap_err();
    assert!(error.contains("busy, and asks to come back in 3600 s"), "{error}");
}

#[test]
fn servers_that_say_slowly_that_they_are_busy_are_not_asked_for_ever() {
    let file = tree::noise(12, 1000);
    // When one has said so, the other's time is over.
    let slow = || {
        Server::new(&[("file", &file)], |request: &Request| {
            thread::sleep(Duration::from_millis(1100));
            if request.number < 4 { Answer::Busy(1) } else { Answer::Right }
        })
    };
    let (first, second) = (slow(), slow());
    let urls = [first.url(), second.url()];
    let retry = Retry { busy: Duration::from_secs(2), ..QUICK };
    let mut image = RemoteImage::new(client(), &urls, "file", 1000, retry, |_| {});
    let error = image.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("busy, and asks to come back in 1 s"), "{error}");
}

/// Leaves a server that gives less than a mebibyte in a tenth of a second of waiting, if there is another one.
fn brisk() -> Client {
    let window = Duration::from_millis(100);
    let patience = Patience { window, window_bytes: 1, ..Patience::default() };
    Client::new(None, patience).unwrap()
}

#[test]
fn a_server_that_falls_behind_is_left_while_another_is_free_and_kept_where_there_is_none() {
    let file = tree::noise(13, 300_000);
    let slow = || Server::new(&[("file", &file)], |_| Answer::Slowly(10_000, 20));
    let (first, second) = (slow(), Server::honest(&[("file", &file)]));
    let (bytes, switches) = read(brisk(), &[&first, &second], file.len());
    assert!(bytes.unwrap() == file);
    let [(at, next)] = switches.as_slice() else { panic!("{switches:?}") };
    assert!((1..300_000).contains(at) && *next == second.url(), "{switches:?}");
    // The only one may take its time; of two that do, each is left once.
    let (bytes, switches) = read(brisk(), &[&first], file.len());
    assert!(bytes.unwrap() == file && switches.is_empty(), "{switches:?}");
    let (bytes, switches) = read(brisk(), &[&first, &slow()], file.len());
    assert!(bytes.unwrap() == file && switches.len() == 1, "{switches:?}");
}

#[test]
fn a_server_that_is_slow_to_answer_for_each_range_is_left_too() {
    let (_folder, _, image) = tree_and_image();
    let slow = Server::new(&[("file", &image.tar_zst)], |_| Answer::Slowly(1 << 20, 60));
    let good = Server::honest(&[("file", &image.tar_zst)]);
    let (urls, size) = ([slow.url(), good.url()], image.index.packed_size());
    let frames: Vec<_> = image.index.placed_frames().step_by(2).collect();
    let range = |frame: &PlacedFrame| {
        frame.packed_offset..frame.packed_offset + u64::from(frame.frame.packed)
    };
    let mut source = RemoteImage::new(brisk(), &urls, "file", size, QUICK, |_| {});
    source.expect(frames.iter().map(range).collect());
    for frame in &frames {
        let mut packed = Vec::new();
        source.read_frame(frame, &mut packed).unwrap();
        assert!(frame.frame.is(&packed));
    }
    // Two of them take longer than a tenth of a second.
    let asked = [&slow, &good].map(|server| server.requests().len());
    assert!(frames.len() > 10 && (1..=2).contains(&asked[0]), "{asked:?}");
}

#[test]
fn the_first_server_is_gone_back_to_once_it_is_not_busy_any_more() {
    let file = tree::noise(14, 300_000);
    let first = Server::new(&[("file", &file)], |request: &Request| match request.number {
        0 => Answer::Busy(1),
        _ => Answer::Right,
    });
    // Takes a second and a half.
    let second = Server::new(&[("file", &file)], |_| Answer::Slowly(10_000, 50));
    let urls = [first.url(), second.url()];
    let retry = Retry { back: Duration::ZERO, ..QUICK };
    let mut image = RemoteImage::new(client(), &urls, "file", 300_000, retry, |_| {});
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    assert!(bytes == file);
    let asked = first.requests();
    let [_, again] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(again.from.is_some_and(|from| from > 0), "{asked:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_servers_do_the_tree_is_right_or_nothing_is(
        answers in prop::collection::vec((0..KINDS, any::<u32>()), 1..30),
        missing in prop::collection::vec(0_usize..100, 1..40),
    ) {
        let (_folder, _, image) = tree_and_image();
        let length = image.tar_zst.len();
        let lie = move |request: &Request| {
            let (kind, number) = answers[request.number % answers.len()];
            Answer::of(kind, number, request, length)
        };
        let liar = Server::new(&[("file", &image.tar_zst)], lie);
        let honest = Server::honest(&[("file", &image.tar_zst)]);
        // Alone it may fail, which it says; what is made is right.
        let _ = update_from(&image, &missing, &[&liar], QUICK);
        update_from(&image, &missing, &[&liar, &honest], QUICK).unwrap();
    }
}
