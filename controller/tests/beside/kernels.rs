//! Releases that bring a kernel.

use super::*;

impl Machine {
    /// Publishes a version with a kernel of so many bytes.
    fn publish_with_kernel(&self, serial: u64, size: usize) {
        let file = |path: &str, seed, size| {
            let bytes = tree::noise(seed, size);
            self.server.put(path, &bytes);
            WholeFile { path: path.to_owned(), size: size as u64, sha256: Sha256::of(&bytes) }
        };
        let initramfs = file("initramfs", serial + 2000, 3_000_000);
        let image = file("kernel", serial + 1000, size);
        self.offer(&self.pack(serial), None, Some(Kernel { image, initramfs }));
    }

    /// Makes a BOOTFS that systemd-boot reads.
    fn add_boot(&self) {
        run(Command::new("mkfs.ext4").args(["-q", "-L", "BOOTFS"]).arg(self.partition(3)));
        self.inside(3, |top| fs::create_dir_all(top.join("loader/entries")).unwrap());
    }

    /// What is in the folder of kernels, and in that of the boot loader's entries.
    fn kernels(&self) -> [Vec<String>; 2] {
        self.inside(3, |top| {
            ["gse", "loader/entries"].map(|folder| {
                let listing = fs::read_dir(top.join(folder)).unwrap();
                let mut names: Vec<_> =
                    listing.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
                names.sort();
                names
            })
        })
    }
}

#[test]
fn a_kernel_that_came_wrong_is_fetched_again() {
    let asked = AtomicUsize::new(0);
    let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
        "kernel" if asked.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Flip(1_000_000),
        _ => Answer::Right,
    });
    machine.add_boot();
    machine.publish_with_kernel(2, 2_000_000);
    assert_eq!(machine.fetch().unwrap(), WAITS);
    machine.inside(3, |top| {
        let found = fs::read(top.join("gse/vmlinuz-2")).unwrap();
        assert!(found == tree::noise(1002, 2_000_000));
    });
}

#[test]
fn a_release_waits_with_the_kernel_that_it_brings_or_not_at_all() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let asked = AtomicUsize::new(0);
    let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
        "initramfs" if breaks.load(Ordering::SeqCst) => {
            match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::CutAfter(1_000_000),
                _ => Answer::Status(404),
            }
        }
        _ => Answer::Right,
    });
    machine.add_boot();
    machine.publish_with_kernel(2, 2_000_000);
    let before = machine.bytes(2);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("writing initramfs-2.img to BOOTFS"), "{error}");
    assert_eq!(machine.kernels(), [vec!["vmlinuz-2".to_owned()], Vec::new()]);
    assert_eq!(before, machine.bytes(2), "a slot was given up for what is not complete");
    assert!(!machine.plan().waiting);

    // What is there is not fetched again, and no boot loader knows of it.
    let asked = |from: usize| {
        let requests = machine.server.requests().split_off(from);
        ["kernel", "initramfs"].map(|path| requests.iter().any(|request| request.path == path))
    };
    broken.store(false, Ordering::SeqCst);
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [false, true]);
    machine.is_in_second();
    let both = ["initramfs-2.img", "vmlinuz-2"].map(str::to_owned).to_vec();
    assert_eq!(machine.kernels(), [both.clone(), Vec::new()]);
    machine.inside(3, |top| {
        let found = fs::read(top.join("gse/initramfs-2.img")).unwrap();
        assert!(found == tree::noise(2002, 3_000_000));
    });
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [false, false]);
    machine.inside(3, |top| fs::write(top.join("gse/vmlinuz-2"), "bad").unwrap());
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [true, false]);

    // Too large for BOOTFS: what waits goes on waiting.
    machine.publish_with_kernel(3, 24_000_000);
    let before = machine.bytes(2);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("make it larger"), "{error}");
    assert!(!machine.plan().waiting);
    assert_eq!((before, machine.kernels()), (machine.bytes(2), [both, Vec::new()]));
}
