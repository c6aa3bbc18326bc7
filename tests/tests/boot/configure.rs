//! What an administrator changes in `controller/system/`, on a whole machine with OpenRC.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use gse_qemu::{
    Disk, Exit, Filesystem, Lab, Machine,
    fixtures::{Flavour, kernel, tree},
    lab::{program, slot_for},
};
use gse_tests::lab::{VERSION, Watch as _, copy, scratch};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@lab\n";

/// The Debian tree, with a service that is not started, and a program that says which locales it was told to
/// make: the tree has no sources of locales.
fn furnished(dir: &Path) -> PathBuf {
    let own = dir.join("tree");
    copy(&tree().unwrap(), &own);
    let program = |path: &str, text: &str| {
        let path = own.join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program(
        "etc/init.d/chime",
        "#!/sbin/openrc-run\nstart() {\n\techo 'the chime rings'\n\teend 0\n}\n",
    );
    program(
        "usr/sbin/locale-gen",
        "#!/bin/sh -e\nsed 's/^/saw locale /' /etc/locale.gen >/usr/lib/locale/locale-archive\n",
    );
    own
}

fn write(lab: &Lab, name: &str, text: &str) {
    lab.write_config(&format!("controller/system/{name}"), text).unwrap();
}

fn start(lab: &Lab, disk: &Disk) -> Machine {
    lab.machine().disk(disk.clone()).start().unwrap()
}

/// Waits for the login of a machine of this name, logs in, and runs this.
fn log_in(machine: &Machine, name: &str, command: &str) {
    machine.shows(&[&format!("{name} login: ")]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["# "]);
    machine.console.send_line(command).unwrap();
}

fn shut_down(machine: &Machine) {
    machine.ctrl_alt_del().unwrap();
    machine.shows(&["gse: this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

const LOOK: &str = "cat /usr/lib/locale/locale-archive; echo \"saw zone $(readlink /etc/localtime)\"; \
                    stat -c 'saw %n %a %U:%G' /root/.ssh /root/.ssh/authorized_keys /etc/lab/secret; \
                    echo \"saw services\" $(ls /etc/runlevels/default); sed 's/^/saw host /' /etc/hosts";

#[test]
fn a_machine_follows_its_configuration_but_for_what_is_its_own() {
    let dir = scratch();
    let tree = furnished(dir.path());
    let slot = slot_for(&tree).unwrap();
    let mut lab =
        Lab::new(dir.path(), kernel(Flavour::Cloud).unwrap(), slot, Filesystem::Btrfs).unwrap();
    lab.publish(&tree, VERSION).unwrap();
    for (name, text) in [
        ("hosts", "127.0.0.1 localhost first\n"),
        ("timezone", "Europe/Athens\n"),
        ("locale.gen", "el_GR.UTF-8 UTF-8\n"),
        ("ssh.pub", KEY),
        ("runlevels", "chime add default\n"),
        ("scripts/hello", "#!/bin/sh\necho 'the script says hello' >/dev/console\n"),
        ("files/etc/lab/secret", "x\n"),
        ("owners", "/etc/lab/secret root:shadow 0640\n"),
    ] {
        write(&lab, name, text);
    }
    lab.publish_config().unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();

    let machine = start(&lab, &disk);
    machine.shows(&["gse: making the locales", "gse: applying the configuration"]);
    log_in(&machine, "lab-677365", LOOK);
    machine.shows(&[
        "\nsaw locale el_GR.UTF-8 UTF-8",
        "\nsaw zone ../usr/share/zoneinfo/Europe/Athens",
        "\nsaw /root/.ssh 700 root:root",
        "\nsaw /root/.ssh/authorized_keys 600 root:root",
        "\nsaw /etc/lab/secret 640 root:shadow",
        "\nsaw services chime gse-up local",
        "\nsaw host 127.0.0.1 localhost first",
    ]);
    // In any order: both come after everything else, as the report that the system is up.
    let text = machine.console.text();
    assert!(text.contains("the chime rings") && text.contains("the script says hello"), "{text}");
    // Below the /etc in memory lies the system's own.
    let mask = "mount -o remount,rw / && mount --bind / /mnt && echo '#CF_MASK=ON' >>/mnt/etc/hosts \
                && umount /mnt && mount -o remount,ro / && echo saw the \"mask\"";
    machine.shows(&["# "]);
    machine.console.send_line(mask).unwrap();
    machine.shows(&["\nsaw the mask"]);
    shut_down(&machine);

    // A typo does not leave the server; what only the image can tell does not get into the system.
    lab.write_config("controller/machines.toml", "[[machine]]\nhostname = \"desk-{mac}\"\n")
        .unwrap();
    write(&lab, "hosts", "127.0.0.1 localhost second\n");
    write(&lab, "runlevels", "chime ad default\n");
    assert!(lab.publish_config().is_err());
    let check = format!("--check-config={}", lab.config().display());
    let refused = Command::new(program("gse").unwrap()).arg(check).output().unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected =
        "controller/system/runlevels:1: \"ad\" is neither add nor del (did you mean `add`?)";
    assert!(refused.contains(expected), "{refused}");
    write(&lab, "runlevels", "chyme add default\n");
    lab.publish_config().unwrap();
    let machine = start(&lab, &disk);
    machine.shows(&["runlevels:1: the image has no service \"chyme\" (did you mean `chime`?)"]);
    machine.shows(&["the chime rings"]);
    log_in(&machine, "lab-677365", "true");
    machine.never_showed(&["gse: applying the configuration"]);
    shut_down(&machine);

    for name in ["timezone", "locale.gen", "runlevels", "scripts/hello"] {
        fs::remove_file(lab.config().join("controller/system").join(name)).unwrap();
    }
    lab.publish_config().unwrap();
    let machine = start(&lab, &disk);
    machine.shows(&["gse: left alone: /etc/hosts (masked on this machine)"]);
    machine.shows(&["gse: applying the configuration"]);
    log_in(&machine, "desk-677365", LOOK);
    machine.shows(&[
        "locale-archive: No such file",
        "\nsaw zone /usr/share/zoneinfo/Etc/UTC",
        "\nsaw /root/.ssh/authorized_keys 600 root:root",
        "\nsaw services gse-up local",
        "\nsaw host 127.0.0.1 localhost first",
        "\nsaw host #CF_MASK=ON",
    ]);
    machine.never_showed(&["the chime rings", "the script says hello", "gse: making the locales"]);
    shut_down(&machine);

    lab.stop_server();
    let machine = start(&lab, &disk);
    machine.shows(&["gse: left alone: /etc/hosts (masked on this machine)"]);
    log_in(&machine, "desk-677365", "true");
    machine.never_showed(&["gse: applying the configuration"]);
    shut_down(&machine);
}
