//! What ELF files say about themselves.

use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, elf,
    read::elf::{ElfFile64, ProgramHeader as _},
};

/// A program or a shared library.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The loader that it asks for (`PT_INTERP`); a static program has none.
    pub(super) loader: Option<String>,
    /// Libraries, as `DT_NEEDED` names them.
    pub(super) needs: Vec<String>,
    /// Directories of its own (`DT_RUNPATH`, else `DT_RPATH`).
    pub(super) run_path: Vec<String>,
    /// Whether it ends threads in a way for which glibc loads libgcc_s at run time.
    pub(super) unwinds_threads: bool,
}

impl Program {
    /// Reads a program or library for x86-64. The error says what it is instead.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = parse(bytes)?;
        let header = file.elf_header();
        let endian = file.endian();
        if header.e_machine.get(endian) != elf::EM_X86_64 {
            return Err("it is for another processor than x86-64".to_owned());
        }
        if !matches!(header.e_type.get(endian), elf::ET_EXEC | elf::ET_DYN) {
            return Err("it is neither a program nor a library".to_owned());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut loader = None;
        for segment in file.elf_program_headers() {
            let found = segment.interpreter(endian, bytes).map_err(|e| e.to_string())?;
            loader = loader.or(found.map(text));
        }
        let dynamic = file.elf_dynamic_table().map_err(|e| e.to_string())?;
        let (mut needs, mut rpath, mut runpath) = (Vec::new(), None, None);
        for entry in &dynamic {
            let slot = match entry.tag {
                elf::DT_NEEDED => {
                    needs.push(text(dynamic.string(entry).map_err(|e| e.to_string())?));
                    continue;
                }
                elf::DT_RPATH => &mut rpath,
                elf::DT_RUNPATH => &mut runpath,
                _ => continue,
            };
            *slot = Some(text(dynamic.string(entry).map_err(|e| e.to_string())?));
        }
        let run_path = runpath.or(rpath).unwrap_or_default();
        let unwinds_threads = file.dynamic_symbols().any(|symbol| {
            let name = symbol.name_bytes().unwrap_or_default();
            symbol.is_undefined() && matches!(name, b"pthread_cancel" | b"pthread_exit")
        });
        Ok(Self {
            loader,
            needs,
            run_path: run_path.split(':').filter(|d| !d.is_empty()).map(str::to_owned).collect(),
            unwinds_threads,
        })
    }

    /// Whether it runs without anything beside it.
    pub(super) fn is_static(&self) -> bool {
        self.loader.is_none() && self.needs.is_empty()
    }
}

/// The firmware files that a kernel module may ask for, from its `.modinfo`: strings `key=value`, each with
/// a NUL behind it.
pub(super) fn firmware_of(module: &[u8]) -> Result<Vec<String>, String> {
    let file = parse(module)?;
    let Some(section) = file.section_by_name(".modinfo") else { return Ok(Vec::new()) };
    let info = section.data().map_err(|e| e.to_string())?;
    let values = info.split(|b| *b == 0).filter_map(|s| s.strip_prefix(b"firmware="));
    Ok(values.map(|v| String::from_utf8_lossy(v).into_owned()).collect())
}

fn parse(bytes: &[u8]) -> Result<ElfFile64<'_, Endianness>, String> {
    ElfFile64::parse(bytes).map_err(|e| format!("it is no 64-bit ELF file: {e}"))
}
