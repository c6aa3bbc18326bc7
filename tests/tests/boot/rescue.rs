//! Rescue: a way out for who is there, and for nobody.

use gse_qemu::Exit;
use gse_tests::{
    lab::{Watch as _, scratch},
    small::{self, banner},
};

// openssl passwd -6 -salt saltstring secret
const POLICY: &str = r#"[rescue]
password = "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz."
reboot_after = 3600
"#;

/// What only a shell makes of this line: what is typed is shown too.
const TYPED: &str = "echo shell $((6 * 7))";
const SHELL: &str = "shell 42";

#[test]
fn without_a_password_there_is_no_shell_and_a_retry_finds_the_server() {
    let dir = scratch();
    let mut lab = small::lab(dir.path());
    lab.stop_server();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk).start().unwrap();
    machine.rescues(&[
        "no system is installed on this machine, and no server offered one",
        "no shell: the configuration has no rescue.password",
    ]);
    for word in ["s", "shell", TYPED] {
        machine.console.send_line(word).unwrap();
        machine.shows(&["r, b or o", "rescue> "]);
    }
    machine.never_showed(&[SHELL, "Rescue password"]);
    lab.start_server().unwrap();
    machine.console.send_line("r").unwrap();
    machine.shows(&[&banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn only_the_right_password_opens_the_shell() {
    let dir = scratch();
    let mut lab =
        small::unbuilt(dir.path(), gse_qemu::fixtures::Flavour::Cloud, gse_qemu::Filesystem::Ext4);
    lab.write_config("controller/boot.toml", POLICY).unwrap();
    lab.build_controller().unwrap();
    lab.stop_server();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk).start().unwrap();
    machine.rescues(&["s  a shell, with the lab's rescue password"]);
    for wrong in ["wrong", ""] {
        machine.console.send_line("s").unwrap();
        machine.shows(&["Rescue password: "]);
        machine.console.send_line(wrong).unwrap();
        machine.shows(&["That is not the rescue password.", "rescue> "]);
        machine.console.send_line(TYPED).unwrap();
        machine.shows(&["r, b or o, or s", "rescue> "]);
    }
    machine.never_showed(&[SHELL]);
    machine.console.send_line("s").unwrap();
    machine.shows(&["Rescue password: "]);
    machine.console.send_line("secret").unwrap();
    machine.shows(&["Leave the shell with `exit`", "# "]);
    machine.console.send_line(TYPED).unwrap();
    machine.shows(&[SHELL, "# "]);
    machine.console.send_line("exit").unwrap();
    machine.shows(&["rescue> "]);
    machine.never_showed(&["secret"]);
    machine.console.send_line("o").unwrap();
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn a_worker_that_is_killed_ends_in_rescue_and_not_in_a_panic() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |lab| {
        // There the worker waits for as long as it takes to kill it.
        let text =
            "[update]\npolicy = \"ask\"\nask_timeout = 3600\n[rescue]\nreboot_after = 3600\n";
        lab.write_config("controller/boot.toml", text).unwrap();
    });
    small::publish(&lab, "2", |_| {});
    let machine = lab.machine().disk(disk).append("sysrq_always_enabled").start().unwrap();
    // SIGKILL and SIGTERM to everything but PID 1: Documentation/admin-guide/sysrq.rst of the kernel.
    for (key, signal) in [('i', 9), ('e', 15)] {
        machine.shows(&["install version 2 now? [y/N] (3600 s) "]);
        machine.sysrq(key).unwrap();
        machine.rescues(&[&format!("the controller was ended by signal {signal}")]);
        machine.console.send_line("r").unwrap();
    }
    machine.shows(&["install version 2 now? "]);
    machine.console.send_line("n").unwrap();
    machine.shows(&[&banner("1"), "this system is closed"]);
    machine.never_showed(&["Kernel panic"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn a_machine_in_rescue_reboots_by_itself() {
    let dir = scratch();
    let mut lab =
        small::unbuilt(dir.path(), gse_qemu::fixtures::Flavour::Cloud, gse_qemu::Filesystem::Ext4);
    lab.write_config("controller/boot.toml", "[rescue]\nreboot_after = 2\n").unwrap();
    lab.build_controller().unwrap();
    lab.stop_server();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk).reboots().start().unwrap();
    machine.rescues(&["Without a key press it reboots in 2 s"]);
    // And once the server is there, nobody has to touch the machine.
    lab.start_server().unwrap();
    machine.shows(&["Linux version", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}
