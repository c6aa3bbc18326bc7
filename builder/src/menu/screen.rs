//! The terminal: reads keys, draws, and does what the model asks for.

use std::{
    env,
    io::{self, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    entries::Item,
    job::End,
    model::{Effect, Key, Model},
    view::{Palette, draw},
};
use crate::{build::config_tree::System, editor, publish};

/// The manual.
const PAGES: [(&str, &str); 4] = [
    ("gse.1", include_str!("../../../man/gse.1")),
    ("gse.5", include_str!("../../../man/gse.5")),
    ("gse-config.5", include_str!("../../../man/gse-config.5")),
    ("gse-controller.8", include_str!("../../../man/gse-controller.8")),
];

/// How long a key may wait for what a command prints, or the other way round.
const TICK: Duration = Duration::from_millis(50);

/// Something from the command that runs.
enum Said {
    Bytes(Vec<u8>),
    /// One of its two streams is over.
    Closed,
}

struct Running {
    child: Child,
    said: Receiver<Said>,
    open: u8,
}

/// Shows the menu until it is left. `items` makes it anew after whatever may have changed it.
///
/// # Errors
/// Those of the terminal.
pub(super) fn show(
    mut model: Model,
    config: Option<&Path>,
    items: &dyn Fn() -> Vec<Item>,
) -> io::Result<()> {
    let palette = Palette::new(env::var("NO_COLOR").ok().as_deref());
    let mut terminal = ratatui::try_init()?;
    let result = run(&mut terminal, &mut model, palette, config, items);
    ratatui::restore();
    result
}

fn run(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    palette: Palette,
    config: Option<&Path>,
    items: &dyn Fn() -> Vec<Item>,
) -> io::Result<()> {
    let mut running: Option<Running> = None;
    let mut changed = true;
    // The first look for events is what makes a change of size one: it must not come between drawing and that.
    event::poll(Duration::ZERO)?;
    loop {
        if let Some(job) = running.as_mut() {
            changed |= listen(job, model);
            if let Some(end) = job.end()? {
                model.ended(end);
                model.refresh(items());
                running = None;
                changed = true;
            }
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| draw(model, palette, frame))?;
        }
        if !event::poll(TICK)? {
            continue;
        }
        changed = true;
        // A resize is an event too, after which everything is drawn.
        let Event::Key(event) = event::read()? else { continue };
        let Some(key) = key(event) else { continue };
        match model.update(key) {
            Effect::None => {}
            Effect::Quit => return Ok(()),
            Effect::Start(arguments) => match start(&arguments) {
                Ok(job) => running = Some(job),
                Err(e) => model.say(format!("gse does not start: {e}")),
            },
            Effect::Stop => stop(running.as_ref()),
            Effect::Terminal(arguments) => {
                let mut command = Command::new("/proc/self/exe");
                outside(terminal, model, command.args(arguments), true)?;
                model.refresh(items());
            }
            Effect::Manual(section, name) => {
                manual(terminal, model, section, name)?;
            }
            Effect::Shell => {
                let shell = env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
                outside(terminal, model, &mut Command::new(shell), false)?;
            }
            Effect::Edit(path) => {
                edit(terminal, model, &path, config)?;
                model.refresh(items());
            }
        }
    }
}

fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

/// Starts gse in a session without a terminal: it must not take keys from the menu, so it asks nobody. setsid(1) becomes what it
/// starts, because it leads no process group here.
fn start(arguments: &[String]) -> io::Result<Running> {
    let mut child = Command::new("setsid")
        .arg(env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (sender, said) = channel();
    if let Some(stream) = child.stdout.take() {
        forward(stream, sender.clone());
    }
    if let Some(stream) = child.stderr.take() {
        forward(stream, sender);
    }
    Ok(Running { child, said, open: 2 })
}

fn forward(mut stream: impl Read + Send + 'static, sender: Sender<Said>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default().to_vec();
            // The menu may be gone by now.
            if sender.send(Said::Bytes(bytes)).is_err() {
                return;
            }
        }
        let _ = sender.send(Said::Closed);
    });
}

/// Takes what the command has printed, and tells whether there was anything.
fn listen(job: &mut Running, model: &mut Model) -> bool {
    let mut any = false;
    while let Ok(said) = job.said.try_recv() {
        any = true;
        match said {
            Said::Bytes(bytes) => model.printed(&bytes),
            Said::Closed => job.open = job.open.saturating_sub(1),
        }
    }
    any
}

impl Running {
    /// How it ended, once it has and all that it printed is there.
    fn end(&mut self) -> io::Result<Option<End>> {
        if self.open > 0 {
            return Ok(None);
        }
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        Ok(Some(match status.code() {
            Some(0) => End::Well,
            // 128 and the signal is what a program says that cleaned up after the signal and then ended.
            Some(code) if code <= 128 => End::Failed(code),
            _ => End::Stopped,
        }))
    }
}

/// As Ctrl and C would in a terminal. A build ends with all that runs in it.
fn stop(running: Option<&Running>) {
    let pid = running.and_then(|job| i32::try_from(job.child.id()).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // If it has ended meanwhile, that is what was wanted.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Runs a program in the terminal, with the menu out of the way.
fn outside(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    command: &mut Command,
    pause: bool,
) -> io::Result<()> {
    ratatui::restore();
    let status = command.status();
    if pause {
        eprintln!("\n[Enter goes back to the menu]");
        io::stdin().read_line(&mut String::new())?;
    }
    *terminal = ratatui::try_init()?;
    terminal.clear()?;
    if let Err(e) = status {
        model.say(format!("{} does not start: {e}", command.get_program().to_string_lossy()));
    }
    Ok(())
}

/// The page that this gse was built with: it is right where none is installed, or another one.
fn manual(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    section: &str,
    name: &str,
) -> io::Result<()> {
    let file = format!("{name}.{section}");
    let Some((_, page)) = PAGES.iter().find(|(known, _)| *known == file) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(file);
    std::fs::write(&path, page)?;
    outside(terminal, model, Command::new("man").arg("-l").arg(path), false)
}

fn edit(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    path: &Path,
    config: Option<&Path>,
) -> io::Result<()> {
    ratatui::restore();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let edited = std::fs::create_dir_all(folder)
        .map_err(anyhow::Error::new)
        .and_then(|()| Ok(editor::edit(folder, &[path.to_owned()])?));
    *terminal = ratatui::try_init()?;
    terminal.clear()?;
    let name = path.display();
    model.say(match edited.and_then(|()| check(path, config)) {
        Ok(()) => format!("{name}: no mistakes found"),
        Err(e) => format!("{e:#}\n\nThe file stays as you wrote it: choose it again to mend it."),
    });
    Ok(())
}

/// The part of the configuration that the file belongs to, as it will be read.
fn check(path: &Path, config: Option<&Path>) -> anyhow::Result<()> {
    let Some(config) = config else { return Ok(()) };
    if path.starts_with(config.join("system")) {
        System::load(config)?;
    } else {
        publish::check(config)?;
    }
    Ok(())
}
