//! One segment: a file (or, while the disk cannot be written, a piece of memory) of records of one epoch.
//!
//! A file begins with a header of 32 bytes: magic `NMSP`, version u32, epoch u64, first sequence u64, a
//! reserved u32, crc32 of all that; everything little-endian. The file's name says the same once more, so
//! that a damaged header costs nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::reader::{Item, Reader};

/// Length of the header.
pub(super) const HEADER_BYTES: u64 = 32;
const MAGIC: [u8; 4] = *b"NMSP";
const VERSION: u32 = 1;
const EXTENSION: &str = "seg";

/// Nothing beyond this is read of one file: the spool itself never writes segments of half this size.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Where the bytes are.
#[derive(Debug)]
enum Storage {
    /// The handle is kept for the segment that is being written, and opened by the reader for others.
    File {
        path: PathBuf,
        handle: Option<File>,
    },
    Memory(Vec<u8>),
}

/// A run of records with rising sequences.
#[derive(Debug)]
pub(super) struct Segment {
    /// Rises from segment to segment, over all epochs.
    pub(super) id: u64,
    pub(super) epoch: u64,
    pub(super) first_sequence: u64,
    /// `first_sequence - 1` while there is no record.
    pub(super) last_sequence: u64,
    pub(super) events: u64,
    /// Bytes up to the end of the last record, the header included.
    pub(super) end: u64,
    storage: Storage,
}

/// What reading a segment from disk found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    /// Places where one or more records were damaged but good ones followed.
    pub(super) damaged: u64,
    /// The end is not a record: torn by a crash, or damaged.
    pub(super) broken_tail: bool,
}

impl Segment {
    /// Makes an empty segment file. It must not exist yet.
    pub(super) fn create(dir: &Path, id: u64, epoch: u64, first_sequence: u64) -> io::Result<Self> {
        let path = dir.join(format!("{id:010}-{epoch:016x}-{first_sequence}.{EXTENSION}"));
        let mut handle = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        if let Err(error) = handle.write_all(&header(epoch, first_sequence)) {
            // A file with half a header would only be found and counted as damage at the next start.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self::new(id, epoch, first_sequence, Storage::File { path, handle: Some(handle) }))
    }

    /// Makes an empty segment that lives in memory.
    pub(super) fn in_memory(id: u64, epoch: u64, first_sequence: u64) -> Self {
        Self::new(id, epoch, first_sequence, Storage::Memory(header(epoch, first_sequence).to_vec()))
    }

    /// Reads what `bytes` hold as if they were a segment's file.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> (Self, Scan) {
        let (epoch, first_sequence) = parse_header(&bytes).unwrap_or((1, 1));
        let len = bytes.len() as u64;
        let mut segment = Self::new(1, epoch, first_sequence, Storage::Memory(bytes));
        let scan = segment.scan(len).unwrap_or_default();
        (segment, scan)
    }

    /// Opens an existing file and counts what it holds. `None`: it does not look like a segment at all.
    pub(super) fn open(path: &Path) -> io::Result<Option<(Self, Scan)>> {
        let Some((id, named_epoch, named_first)) = parse_name(path) else { return Ok(None) };
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut head = [0; HEADER_BYTES as usize];
        let said = file.read_exact_at(&mut head, 0).ok().and_then(|()| parse_header(&head));
        let (epoch, first_sequence) = said.unwrap_or((named_epoch, named_first));

        let storage = Storage::File { path: path.to_owned(), handle: Some(file) };
        let mut segment = Self::new(id, epoch, first_sequence, storage);
        let scan = segment.scan(len)?;
        segment.close();
        Ok(Some((segment, scan)))
    }

    fn new(id: u64, epoch: u64, first_sequence: u64, storage: Storage) -> Self {
        let last_sequence = first_sequence.saturating_sub(1);
        Self { id, epoch, first_sequence, last_sequence, events: 0, end: HEADER_BYTES, storage }
    }

    fn scan(&mut self, len: u64) -> io::Result<Scan> {
        self.end = len.clamp(HEADER_BYTES, MAX_FILE_BYTES);
        let mut scan = Scan { broken_tail: !(HEADER_BYTES..=MAX_FILE_BYTES).contains(&len), damaged: 0 };
        let mut reader = Reader::new(self);
        let mut good_end = HEADER_BYTES;
        loop {
            match reader.next(self)? {
                Item::Record(record) => {
                    scan.damaged += u64::from(record.after_damage);
                    self.last_sequence = record.sequence;
                    self.events += u64::from(record.events);
                    good_end = record.end;
                }
                Item::End => break,
                Item::Broken => {
                    scan.broken_tail = true;
                    break;
                }
            }
        }
        self.end = good_end;
        Ok(scan)
    }

    /// Cuts the file behind its last good record, so that the damage is not found and counted again.
    pub(super) fn cut_tail(&self) -> io::Result<()> {
        match &self.storage {
            Storage::File { path, .. } => OpenOptions::new().write(true).open(path)?.set_len(self.end),
            Storage::Memory(_) => Ok(()),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.storage, Storage::File { .. })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last_sequence < self.first_sequence
    }

    /// Batches with a sequence above `after`.
    pub(super) fn batches_after(&self, after: u64) -> u64 {
        self.last_sequence.saturating_sub(after.max(self.first_sequence.saturating_sub(1)))
    }

    /// Appends one record by one write. On an error the segment is as it was before.
    pub(super) fn append(
        &mut self,
        record: &[u8],
        sequence: u64,
        events: u64,
        fsync: bool,
    ) -> io::Result<()> {
        match &mut self.storage {
            Storage::Memory(bytes) => bytes.extend_from_slice(record),
            Storage::File { handle, .. } => {
                let file = handle.as_mut().ok_or_else(|| io::Error::other("the segment is closed"))?;
                if file.metadata()?.nlink() == 0 {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the spool's file was deleted"));
                }
                let written = file.write_all(record);
                if let Err(error) = written.and_then(|()| if fsync { file.sync_data() } else { Ok(()) }) {
                    file.set_len(self.end)?;
                    return Err(error);
                }
            }
        }
        self.end += record.len() as u64;
        self.last_sequence = sequence;
        self.events += events;
        Ok(())
    }

    /// Gives the file's handle back; the reader opens it again when it gets there.
    pub(super) fn close(&mut self) {
        if let Storage::File { handle, path } = &mut self.storage
            && path.exists()
        {
            *handle = None;
        }
    }

    /// Fills `buf` from `offset` on.
    pub(super) fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &mut self.storage {
            Storage::Memory(bytes) => {
                let from = usize::try_from(offset).ok();
                let piece = from.and_then(|from| bytes.get(from..from + buf.len()));
                buf.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Storage::File { path, handle } => {
                let file = match handle {
                    Some(file) => file,
                    None => handle.insert(File::open(path)?),
                };
                file.read_exact_at(buf, offset)
            }
        }
    }

    /// Deletes the file.
    pub(super) fn remove(self) -> io::Result<()> {
        match self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::File { path, .. } => match std::fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            },
        }
    }
}

fn header(epoch: u64, first_sequence: u64) -> [u8; HEADER_BYTES as usize] {
    let mut head = [0; HEADER_BYTES as usize];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&VERSION.to_le_bytes());
    head[8..16].copy_from_slice(&epoch.to_le_bytes());
    head[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = crc32fast::hash(&head[..28]);
    head[28..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn parse_header(data: &[u8]) -> Option<(u64, u64)> {
    let head: &[u8; HEADER_BYTES as usize] = data.first_chunk()?;
    let u64_at = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (epoch, first) = (u64_at(8)?, u64_at(16)?);
    (epoch != 0 && first != 0 && *head == header(epoch, first)).then_some((epoch, first))
}

fn parse_name(path: &Path) -> Option<(u64, u64, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let mut parts = stem.split('-');
    let id = parts.next()?.parse().ok()?;
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let first = parts.next()?.parse().ok()?;
    (parts.next().is_none() && epoch != 0 && first != 0).then_some((id, epoch, first))
}
