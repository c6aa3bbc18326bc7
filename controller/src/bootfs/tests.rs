//! What boot loaders find on BOOTFS, and what they make of it, played by hand: GRUB and systemd-boot change these files
//! before they start a kernel.

use super::*;

const OLD: &str =
    "quiet ip=dhcp BOOT_IMAGE=/gse/vmlinuz initrd=\\gse\\initramfs.img gse.note=\"two words\"";

fn file(text: &str) -> WholeFile {
    WholeFile::of(format!("images/x/{text}"), text.as_bytes())
}

fn open(top: &Path, cmdline: &str) -> BootFs {
    BootFs::open(top, &CmdLine::parse(cmdline)).unwrap().unwrap()
}

/// A server whose files hold their names.
fn named(file: &WholeFile, write: &mut Write<'_>) -> Result<bool> {
    Ok(write(&mut file.path.rsplit('/').next().unwrap().as_bytes())?)
}

/// Installs the kernel of a release.
fn install(boot: &BootFs, serial: u64) -> Result<()> {
    let (kernel, initramfs) = (file("kernel"), file("initramfs"));
    boot.store(serial, [&kernel, &initramfs], &named)?;
    boot.try_next(serial)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn without_a_boot_loader_nothing_is_done() {
    let dir = tempfile::tempdir().unwrap();
    assert!(BootFs::open(dir.path(), &CmdLine::default()).unwrap().is_none());
}

#[test]
fn systemd_boot_tries_a_kernel_and_goes_back_to_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (top, entries) = (dir.path(), dir.path().join("loader/entries"));
    fs::create_dir_all(&entries).unwrap();
    fs::write(entries.join("gse.conf"), "title GSE\n").unwrap();
    fs::write(top.join("loader/loader.conf"), "timeout 0\ndefault gse.conf\n").unwrap();
    let boot = open(top, OLD);
    assert_eq!((boot.state(2).unwrap(), boot.on_trial()), (State::Absent, None));
    install(&boot, 2).unwrap();
    assert_eq!(names(&entries), ["gse-2+3.conf", "gse.conf"]);
    assert_eq!(names(&top.join("gse")), ["initramfs-2.img", "vmlinuz-2"]);
    let loader = fs::read_to_string(top.join("loader/loader.conf")).unwrap();
    assert_eq!(loader, "default gse*\ntimeout 0\n");
    let entry = fs::read_to_string(entries.join("gse-2+3.conf")).unwrap();
    assert!(entry.contains("\nlinux /gse/vmlinuz-2\ninitrd /gse/initramfs-2.img\n"), "{entry}");
    let options = "\noptions quiet ip=dhcp gse.note=\"two words\" panic=30 gse.kernel=2\n";
    assert!(entry.ends_with(options), "{entry}");

    // It starts once, and is confirmed; the next one is not, and stays known.
    fs::rename(entries.join("gse-2+3.conf"), entries.join("gse-2+2-1.conf")).unwrap();
    let second = open(top, "quiet panic=9 gse.kernel=2");
    assert_eq!(second.on_trial(), Some(2));
    second.confirm(2).unwrap();
    assert_eq!((second.state(2).unwrap(), second.on_trial()), (State::Good, None));
    install(&second, 3).unwrap();
    fs::rename(entries.join("gse-3+3.conf"), entries.join("gse-3+0-3.conf")).unwrap();
    assert_eq!(second.state(3).unwrap(), State::Failed);
    // Neither the kernel that runs nor the first one goes for the next; the failed one does.
    install(&second, 4).unwrap();
    assert_eq!(names(&entries), ["gse-2.conf", "gse-4+3.conf", "gse.conf"]);
    let kept = ["initramfs-2.img", "initramfs-4.img", "vmlinuz-2", "vmlinuz-4"];
    assert_eq!(names(&top.join("gse")), kept);
}

#[test]
fn another_system_that_is_the_default_stays_so() {
    use systemd_boot::with_default;
    assert_eq!(with_default("default windows.conf\n"), None);
    assert_eq!(with_default("default gse*\ntimeout 3\n"), None);
    assert_eq!(with_default("").unwrap(), "default gse*\n");
}

#[test]
fn names_of_entries_have_their_tries() {
    use systemd_boot::parse_name;
    for (name, expected) in [
        ("gse-7.conf", Some((7, None))),
        ("gse-7+3.conf", Some((7, Some(3)))),
        ("gse-7+0-3.conf", Some((7, Some(0)))),
        ("gse.conf", None),
        ("gse-x.conf", None),
        ("gse-7+x.conf", None),
        ("other-7.conf", None),
    ] {
        assert_eq!(parse_name(name), expected, "{name}");
    }
}

#[test]
fn grub_tries_a_kernel_once_and_goes_back_to_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let grub = dir.path().join("grub");
    fs::create_dir(&grub).unwrap();
    fs::write(grub.join("grub.cfg"), "menuentry GSE {}\n").unwrap();
    let error = BootFs::open(dir.path(), &CmdLine::parse(OLD)).unwrap_err().to_string();
    assert!(error.contains("does not read gse.cfg"), "{error}");
    fs::write(grub.join("grub.cfg"), "set default=$next_entry\nsource $prefix/gse.cfg\n").unwrap();
    let boot = open(dir.path(), OLD);
    assert_eq!(boot.state(2).unwrap(), State::Absent);
    install(&boot, 2).unwrap();
    let env = || fs::read_to_string(grub.join("grubenv")).unwrap();
    assert_eq!(env().len(), 1024);
    let head = "# GRUB Environment Block\ngse_trial=2\nnext_entry=gse-2\n####";
    assert!(env().starts_with(head), "{}", env());
    let menu = fs::read_to_string(grub.join("gse.cfg")).unwrap();
    let line =
        "linux /gse/vmlinuz-2 'quiet' 'ip=dhcp' 'gse.note=\"two' 'words\"' 'panic=30' gse.kernel=2";
    assert!(menu.contains(line) && menu.contains("--id gse-2 {"), "{menu}");

    // GRUB takes it away, and starts it. If it does not come up, the next start is that of the old one.
    fs::write(grub.join("grubenv"), env().replace("next_entry=gse-2", "next_entry=")).unwrap();
    assert_eq!(open(dir.path(), OLD).state(2).unwrap(), State::Failed);
    let second = open(dir.path(), "quiet gse.kernel=2");
    assert_eq!(second.on_trial(), Some(2));
    second.confirm(2).unwrap();
    assert!(env().contains("\nsaved_entry=gse-2\n") && env().len() == 1024, "{}", env());
    assert_eq!((second.state(2).unwrap(), second.on_trial()), (State::Good, None));
    // The old one stays in the menu.
    install(&second, 3).unwrap();
    let menu = fs::read_to_string(grub.join("gse.cfg")).unwrap();
    assert!(menu.contains("--id gse-2 {") && menu.contains("--id gse-3 {"), "{menu}");
}

#[test]
fn a_block_of_grub_has_its_size_or_is_not_written() {
    assert_eq!(grub::format(&[]).unwrap().len(), 1024);
    let long = vec![format!("a={}", "x".repeat(1000))];
    assert_eq!(grub::format(&long), None);
    let lines = ["a=1".to_owned(), "b=x=y".to_owned()];
    assert_eq!(grub::parse(&grub::format(&lines).unwrap()), lines);
}

#[test]
fn what_was_not_signed_does_not_reach_the_boot_loader() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("loader/entries")).unwrap();
    let boot = open(dir.path(), OLD);
    let (kernel, initramfs) = (file("kernel"), file("initramfs"));
    let other = boot.store(2, [&kernel, &initramfs], &|_, write| Ok(write(&mut &b"other"[..])?));
    let other = format!("{:#}", other.unwrap_err());
    assert!(other.contains("it is not the file that the release names"), "{other}");
    let huge = WholeFile { size: 1 << 60, ..initramfs };
    let full = format!("{:#}", boot.store(2, [&kernel, &huge], &|_, _| Ok(true)).unwrap_err());
    assert!(full.contains("BOOTFS has room for"), "{full}");
    assert_eq!(names(&dir.path().join("loader/entries")), Vec::<String>::new());
    assert_eq!(names(&dir.path().join("gse")), Vec::<String>::new());
    assert_eq!(boot.state(2).unwrap(), State::Absent);
}

#[test]
fn what_is_stored_is_started_only_when_that_is_wanted_and_fetched_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let (top, entries) = (dir.path(), dir.path().join("loader/entries"));
    fs::create_dir_all(&entries).unwrap();
    let boot = open(top, OLD);
    let (kernel, initramfs) = (file("kernel"), file("initramfs"));
    let files = [&kernel, &initramfs];
    let missing =
        |serial| boot.missing(serial, files).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    // Power was cut, and then the server broke off.
    fs::create_dir(top.join("gse")).unwrap();
    fs::write(top.join("gse/incoming"), "old").unwrap();
    let error = boot.store(2, files, &|file, write| {
        let right = named(file, write)?;
        if file.path == initramfs.path { bail!("the server broke off") } else { Ok(right) }
    });
    assert!(format!("{:#}", error.unwrap_err()).contains("initramfs-2.img to BOOTFS: the server"));
    assert_eq!(names(&top.join("gse")), ["vmlinuz-2"]);
    assert_eq!(missing(2), ["initramfs-2.img"]);
    boot.store(2, files, &|file, write| {
        assert_eq!(file.path, initramfs.path);
        named(file, write)
    })
    .unwrap();
    assert_eq!(missing(2), Vec::<String>::new());
    assert_eq!((boot.state(2).unwrap(), names(&entries)), (State::Absent, Vec::new()));
    // It stays until the next one is tried, or its room is needed; what went bad counts as missing.
    boot.store(3, files, &named).unwrap();
    assert_eq!(missing(2), Vec::<String>::new());
    boot.try_next(3).unwrap();
    assert_eq!(names(&top.join("gse")), ["initramfs-3.img", "vmlinuz-3"]);
    fs::write(top.join("gse/vmlinuz-3"), "krenel").unwrap();
    assert_eq!(missing(3), ["vmlinuz-3"]);
}

#[test]
fn what_grub_starts_otherwise_does_not_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let grub = dir.path().join("grub");
    fs::create_dir(&grub).unwrap();
    fs::write(grub.join("grub.cfg"), "set default=$next_entry\nsource $prefix/gse.cfg\n").unwrap();
    install(&open(dir.path(), OLD), 2).unwrap();
    open(dir.path(), "gse.kernel=2").confirm(2).unwrap();
    // A person has chosen the first one in the menu.
    let boot = open(dir.path(), OLD);
    install(&boot, 3).unwrap();
    let kept = ["initramfs-2.img", "initramfs-3.img", "vmlinuz-2", "vmlinuz-3"];
    assert_eq!(names(&dir.path().join("gse")), kept);
}
