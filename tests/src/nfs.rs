//! A real NFS server on loopback: nfs-ganesha, which runs without the kernel's help.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Serves a directory as `/home` to whoever asks, until it is dropped.
#[derive(Debug)]
pub struct NfsServer {
    process: Child,
    port: u16,
}

impl NfsServer {
    /// Serves `export`; what it needs for itself goes into `dir`.
    pub fn start(dir: &Path, export: &Path) -> Self {
        // It cannot be told to take any port, so one that is free is looked for.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = dir.join("ganesha.conf");
        let (log, recovery) = (dir.join("ganesha.log"), dir.join("recovery"));
        let text = format!(
            "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; \
             Enable_NLM = false; Enable_RQUOTA = false; }}\n\
             NFSV4 {{ Graceless = true; RecoveryRoot = \"{}\"; Only_Numeric_Owners = true; }}\n\
             EXPORT {{ Export_Id = 1; Path = {}; Pseudo = /home; Access_Type = RW; \
             Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = VFS; }} }}\n",
            recovery.display(),
            export.display(),
        );
        fs::write(&conf, text).unwrap();
        let process = Command::new("ganesha.nfsd")
            .args(["-F", "-L", "STDOUT", "-f"])
            .arg(&conf)
            .arg("-p")
            .arg(dir.join("ganesha.pid"))
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("ganesha.nfsd (scripts/deps installs it)");
        Self { process, port }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(e) = ended {
            eprintln!("the NFS server still runs: {e}");
        }
    }
}
