//! The files of each module.

use crate::{Category, Contents, File, Files, Point, Priority};

/// A phase of the controller, and the hook that calls it.
struct Phase {
    name: &'static str,
    point: Point,
    priority: Priority,
}

/// The controller runs after what an administrator does to the network at pre-mount 08, and mounts
/// before dracut's own `mount` hooks, which have 99.
const PHASES: [Phase; 3] = [
    Phase { name: "pre-mount", point: Point::PRE_MOUNT, priority: Priority::of_phase(10) },
    Phase { name: "mount", point: Point::MOUNT, priority: Priority::of_phase(10) },
    Phase { name: "pre-pivot", point: Point::PRE_PIVOT, priority: Priority::of_phase(10) },
];

/// Where the controller claims the root, before dracut's own parsers of `root=`.
const CLAIM: Priority = Priority::of_phase(10);

const SETUP: &str = "module-setup.sh";

/// `gse`: the controller, its hooks, and for systemd the unit that mounts the root.
pub(crate) fn controller(contents: &Contents, parts: &[Category]) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Controller.directory());
    let names: Vec<&str> = parts.iter().map(|part| part.module()).collect();
    let mut hooks =
        format!("    inst_hook {} {CLAIM} \"$moddir/gse-cmdline.sh\"\n", Point::CMDLINE);
    let mut files = Files::new();
    for Phase { name, point, priority } in &PHASES {
        hooks += &format!("    inst_hook {point} {priority} \"$moddir/gse-{name}.sh\"\n");
        let script = include_str!("parts/phase.sh").replace("@PHASE@", name);
        files.insert(at(&format!("gse-{name}.sh")), File::script(script));
    }
    let setup = include_str!("parts/gse.sh")
        .replace("@PARTS@", &names.join(" "))
        .replace("    @HOOKS@\n", &hooks);
    files.insert(at(SETUP), File::script(setup));
    files.insert(at("gse-cmdline.sh"), File::script(include_str!("parts/cmdline.sh")));
    files.insert(at("gse-generator.sh"), File::script(include_str!("parts/generator.sh")));
    files.insert(at("mount.gse.sh"), File::script(include_str!("parts/mount.gse.sh")));
    if let Some(bytes) = &contents.controller {
        files.insert(at("gse-controller"), File { mode: 0o755, bytes: bytes.clone() });
    }
    files
}

/// `gse-config`: whatever lies in the module's `root` directory.
pub(crate) fn config(contents: &Contents) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Config.directory());
    let mut files = Files::from([(at(SETUP), File::script(include_str!("parts/config.sh")))]);
    files.extend(
        contents.config.iter().map(|(path, file)| (at(&format!("root/{path}")), file.clone())),
    );
    files
}

/// `gse-network`: drivers.
pub(crate) fn network(contents: &Contents) -> Files {
    let setup =
        include_str!("parts/network.sh").replace("@DRIVERS@", &list(&contents.network_drivers));
    Files::from([(format!("{}/{SETUP}", Category::Network.directory()), File::script(setup))])
}

/// `gse-storage`: drivers and programs.
pub(crate) fn storage(contents: &Contents) -> Files {
    let setup = include_str!("parts/storage.sh")
        .replace("@DRIVERS@", &list(&contents.storage_drivers))
        .replace("@TOOLS@", &list(&contents.tools));
    Files::from([(format!("{}/{SETUP}", Category::Storage.directory()), File::script(setup))])
}

/// `gse-local`: the administrator's own.
pub(crate) fn local(contents: &Contents) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Local.directory());
    let mut files = Files::new();
    let mut commands = String::new();
    for (number, hook) in (1..).zip(&contents.hooks) {
        let name = hook.file_name(number);
        commands += &format!("    inst_hook {} {} \"$moddir/{name}\"\n", hook.point, hook.priority);
        files.insert(at(&name), File { mode: 0o755, bytes: hook.script.clone() });
    }
    if let Some(options) = &contents.cmdline {
        commands += "    inst_simple \"$moddir/cmdline.conf\" /etc/cmdline.d/20-gse.conf\n";
        files.insert(at("cmdline.conf"), File::text(format!("{}\n", options.trim())));
    }
    if let Some(bytes) = &contents.modprobe {
        commands += "    inst_simple \"$moddir/modprobe.conf\" /etc/modprobe.d/gse-local.conf\n";
        files.insert(at("modprobe.conf"), File { mode: 0o644, bytes: bytes.clone() });
    }
    let setup = include_str!("parts/local.sh").replace("    @COMMANDS@\n", &commands);
    files.insert(at(SETUP), File::script(setup));
    files
}

/// Words for a shell command, one a line.
fn list(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" \\\n        ")
}
