//! The loops that failures end in, each answer once, with a real emerge and a real shell in the chroot.

use std::fs;

use crate::support::Lab;

#[test]
fn a_failing_ebuild_goes_through_every_answer() {
    let lab = Lab::new();
    lab.write("packages", "app-misc/fragile\napp-misc/robust\n");
    let installed = |name: &str| lab.tree(&format!("usr/share/{name}/built")).exists();

    // Nobody is asked: the build stops, and says how to go on.
    let said = lab.fails(&[]);
    for expected in
        ["there is no /etc/mended", "questions are off", "stopped at ginstall", "--on-failure=skip"]
    {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    assert!(lab.state().contains("running = \"ginstall\""));

    // Somebody is, and ends it after trying again.
    let (said, success) = lab.typed(&["--quiet"], &["continue", "retry", "abort"]);
    assert!(!success && said.contains("as you said"), "{said}");
    assert!(!installed("fragile"));

    // Somebody looks around, and goes on without the package.
    let (said, success) =
        lab.typed(&["--quiet"], &["continue", "shell", "ls /etc/mended; exit", "skip"]);
    assert!(success && said.contains("No such file"), "{said}");
    assert!(installed("robust") && !installed("fragile"));

    // Somebody mends it, and resumes.
    let lines = ["shell", "touch /etc/mended", "exit", "resume"];
    let (said, success) = lab.typed(&["--quiet", "--enforce=ginstall"], &lines);
    assert!(success, "{said}");
    assert!(installed("robust") && installed("fragile"));
}

#[test]
fn going_on_without_a_package_can_be_the_policy() {
    let lab = Lab::new();
    lab.write("packages", "app-misc/fragile\napp-misc/robust\n");
    lab.write("runlevels", "nothing add default\nlocal add boot\n");
    let output = lab.build(&["--on-failure=skip", "--quiet"]);
    let said = crate::support::both(&output);
    assert!(output.status.success(), "{said}");
    assert!(lab.tree("usr/share/robust/built").exists() && !lab.tree("usr/share/fragile").exists());
    assert!(said.contains("going on without: rc-update add nothing default"), "{said}");
    assert!(said.contains("nothing add default"), "what it concerns: {said}");
    assert!(lab.tree("etc/runlevels/boot/local").is_symlink());

    // A failure that is not emerge's, through each answer.
    lab.write("timezone", "Nowhere/Land\n");
    let zone = lab.tree("usr/share/zoneinfo/Nowhere");
    let flags = ["--quiet", "--enforce=gparte"];
    let (said, success) = lab.typed(&flags, &["abort"]);
    assert!(!success && said.contains("time zone Nowhere/Land"), "{said}");
    let (said, success) = lab.typed(&flags, &["continue", "retry", "skip"]);
    assert!(success && said.contains("going on without"), "{said}");
    let mend = "mkdir /usr/share/zoneinfo/Nowhere; touch /usr/share/zoneinfo/Nowhere/Land; exit";
    let (said, success) = lab.typed(&flags, &["shell", mend, "retry"]);
    assert!(success && zone.exists(), "{said}");
    let localtime = fs::read_link(lab.tree("etc/localtime")).unwrap();
    assert!(localtime.ends_with("Nowhere/Land"));
}
