//! `kill -9`, and then the same command again.

use gse::build::hook::Hook;

use crate::{support::Lab, whole};

#[test]
fn a_build_that_is_killed_in_each_hook_point_goes_on_there() {
    let lab = Lab::new();
    whole::configure(&lab);
    let hooks = Hook::all().filter(|hook| {
        hook.place().is_some()
            && !matches!(hook, Hook::Catalyst | Hook::Rebuild | Hook::Initrd | Hook::Mark)
    });
    let mut caught = 0;
    for hook in hooks {
        if lab.has_done(hook) {
            // The kill came a moment late, when this one was over.
            continue;
        }
        let mut seen = Vec::new();
        let killed = lab.killed(&["--quiet"], |_, line| {
            seen.push(line.to_owned());
            line == hook.does()
        });
        assert!(killed, "{hook}: {seen:?}");
        caught += usize::from(!lab.has_done(hook));
        // The checks come each time, then what the last kill interrupted; what was done before is not done again.
        let steps = seen.iter().filter(|line| Hook::all().any(|h| h.does() == **line)).count();
        assert!(steps <= 3, "{hook}: {seen:?}");
    }
    assert!(caught >= 8, "only {caught} were killed before they were over");
    lab.builds(&[]);
    assert!(lab.state().contains("finished = true"));
    assert!(lab.tree("usr/bin/lab-tools").exists() && lab.tree("usr/share/course/one").exists());
}

#[test]
fn a_build_that_is_killed_anywhere_comes_to_its_end() {
    let lab = Lab::new();
    whole::configure(&lab);
    // Lines of emerge's output among them: after 1, 2, 4, 8 … of them, the last time after none at all.
    let kills = (0..).take_while(|n| lab.killed(&[], |line, _| line + 1 == 1 << n)).count();
    assert!(kills >= 4, "{kills}");
    assert!(lab.state().contains("finished = true"));
    assert!(lab.tree("usr/bin/lab-tools").exists() && lab.tree("usr/share/course/one").exists());
}
