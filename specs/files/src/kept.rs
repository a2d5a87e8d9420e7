//! Kept: a file as it was before our first change to it, for `--undo`. I/O.
//!
//! The very file stays under a second name beside it, or a mark that there was none. It carries a record of what we wrote
//! since, as a digest in an extended attribute: whether the file in its place is still ours is known by that. To put the
//! first one back over a file that somebody has edited would lose the edit, so that is refused, or leaves the edited one
//! beside. Once somebody has edited it between two changes of ours, the record says so for good.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::attributes::{Attributes, RECORDS, whole};
use crate::limited;
use crate::open::{Links, regular_at};
use crate::replace::{ReplaceError, Replacing, is_one};

/// What is behind the file's name in that of the kept one, and of the mark for none.
const BEFORE: &str = ".before-cdi-apply";
const ABSENT: &str = ".absent-before-cdi-apply";
/// The same for a file that was edited and then undone.
const EDITED: &str = ".edited-before-undo";
/// The record of a file that was not ours any more when we changed it again.
const NOT_OURS: &str = "edited";

/// What stands beside a file.
#[derive(Debug)]
enum Kept {
    Nothing,
    /// The file itself.
    File(File),
    /// The mark.
    Absence(File),
}

impl Kept {
    fn of(dir: impl AsFd, name: &OsStr) -> io::Result<Self> {
        let open = |suffix| match regular_at(dir.as_fd(), beside(name, suffix).as_ref(), Links::Refuse) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(io::Error::new(error.kind(), format!("{} beside it: {error}", beside(name, suffix).display())))
            }
            file => file.map(Some),
        };
        Ok(match open(BEFORE)? {
            Some(file) => Self::File(file),
            None => open(ABSENT)?.map_or(Self::Nothing, Self::Absence),
        })
    }
}

/// The bytes of a file before our first change; `None` where nothing is kept. There may have been no file.
///
/// # Errors
/// What is kept cannot be read, or has more bytes than `limit`.
pub fn text(dir: impl AsFd, name: &OsStr, limit: usize) -> io::Result<Option<Vec<u8>>> {
    match Kept::of(dir, name)? {
        Kept::Nothing => Ok(None),
        Kept::File(file) => crate::open::all(file, limit).map(Some),
        Kept::Absence(_) => Ok(Some(Vec::new())),
    }
}

/// A file that is kept, if the change is made.
#[derive(Debug)]
pub struct Keeping<'f> {
    of: &'f Replacing,
    /// What goes again if it is not.
    made: Option<&'static str>,
    /// What is of no use if it is.
    spent: Option<&'static str>,
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let Some(made) = self.made else { return };
        if let Some(old) = self.of.old() {
            let _ = forget(&old.file);
        }
        // One that stays leads to the very file, or marks one that is missing: the next takes it over.
        let _ = remove(self.of, made);
    }
}

impl Keeping<'_> {
    /// The change is made.
    pub fn done(mut self) {
        self.made = None;
        if let Some(spent) = self.spent {
            let _ = remove(self.of, spent);
        }
    }
}

/// Removes what a killed process left: the next file, a second name of the very file that was to be kept, the mark of a
/// file that never came, or the file that an undo has put away.
///
/// # Errors
/// What is beside the file cannot be used, or cannot be removed.
pub fn take_over(file: &Replacing) -> Result<(), ReplaceError> {
    let clear = || match (Kept::of(file.dir(), file.name())?, file.old()) {
        (Kept::File(kept), Some(old)) if is_the_same(&kept, &old.file)? => {
            forget(&old.file)?;
            remove(file, BEFORE)
        }
        (Kept::File(kept), Some(old)) => match record(&old.file)? {
            Some(record) if record.contains(&digest(&limited::read(&kept, file.limit())?)) => {
                remove(file, BEFORE)?;
                forget(&old.file)
            }
            _ => Ok(()),
        },
        (Kept::Absence(_), None) => remove(file, ABSENT),
        _ => Ok(()),
    };
    let next = file.name_of_next();
    remove_name(file, &next).and_then(|()| clear()).map_err(file.failed("write"))
}

/// Keeps a file that is about to hold `text`; of several times the first counts.
///
/// # Errors
/// It cannot be kept; another file has come into its place.
pub fn keep<'f>(file: &'f Replacing, text: &[u8]) -> Result<Keeping<'f>, ReplaceError> {
    try_keep(file, text).map_err(file.failed("keep"))
}

fn try_keep<'f>(file: &'f Replacing, text: &[u8]) -> io::Result<Keeping<'f>> {
    let mut keeping = Keeping { of: file, made: None, spent: None };
    match (Kept::of(file.dir(), file.name())?, file.old()) {
        (Kept::Nothing, None) => keep_absence(file, text, &mut keeping)?,
        (Kept::Nothing, Some(old)) => keep_file(file, &old.file, text, &mut keeping)?,
        // A mark that is not known to be of this file says nothing of it.
        (Kept::Absence(mark), Some(old)) if record(&mark)?.is_none() => {
            keeping.spent = Some(ABSENT);
            keep_file(file, &old.file, text, &mut keeping)?;
        }
        (Kept::File(kept) | Kept::Absence(kept), _) => write_next(&kept, file, text)?,
    }
    Ok(keeping)
}

fn keep_file(file: &Replacing, old: &File, text: &[u8], keeping: &mut Keeping<'_>) -> io::Result<()> {
    let kept = beside(file.name(), BEFORE);
    rustix::fs::linkat(file.dir(), file.name(), file.dir(), &kept, AtFlags::empty())?;
    keeping.made = Some(BEFORE);
    file.leads_to_old(&kept)?;
    write_record(old, &digest(text))
}

fn keep_absence(file: &Replacing, text: &[u8], keeping: &mut Keeping<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mark = rustix::fs::openat(file.dir(), beside(file.name(), ABSENT), flags, Mode::RUSR | Mode::WUSR)?;
    keeping.made = Some(ABSENT);
    write_record(&mark.into(), &digest(text))
}

/// Adds to a record, so that it is true whether the change is made or not.
fn write_next(kept: &File, file: &Replacing, text: &[u8]) -> io::Result<()> {
    let Some(record) = record(kept)? else { return Ok(()) };
    let now = file.old().map(|old| digest(&old.text)).filter(|now| record.contains(now.as_str()));
    write_record(kept, &now.map_or(NOT_OURS.to_owned(), |now| format!("{now} {}", digest(text))))
}

/// How an undo ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// There was nothing to undo.
    Nothing,
    /// The file is as it was before our first change.
    AsBefore,
    /// It would be, but it is not what we wrote, or nobody knows; nothing is done.
    Edited,
    /// It is, and the edited one is beside it, by this name.
    EditedKept(OsString),
}

/// Puts the file back that was there before our first change. One that was edited since is only put away with `force`.
///
/// # Errors
/// It cannot be put back; the one that is there stays then.
pub fn undo(file: &Replacing, force: bool) -> Result<Undone, ReplaceError> {
    take_over(file)?;
    try_undo(file, force).map_err(file.failed("put back"))
}

fn try_undo(file: &Replacing, force: bool) -> io::Result<Undone> {
    let kept = Kept::of(file.dir(), file.name())?;
    let is_ours = match &kept {
        Kept::Nothing => return Ok(Undone::Nothing),
        Kept::File(kept) => is_ours(file, kept)? && has_same_access(file, kept)?,
        Kept::Absence(mark) => is_ours(file, mark)?,
    };
    if !is_ours && !force {
        return Ok(Undone::Edited);
    }
    // Where the file goes that is there now; one that is ours is of no further use.
    let away = if is_ours { None } else { Some(free_name(file)?) };
    match kept {
        Kept::File(kept) => put_back(file, &kept, away.as_deref())?,
        _ => put_away(file, away.as_deref())?,
    }
    Ok(away.map_or(Undone::AsBefore, Undone::EditedKept))
}

/// Whether the file holds what we wrote. One that is missing is nobody's loss.
fn is_ours(file: &Replacing, kept: &File) -> io::Result<bool> {
    let Some(old) = file.old() else { return Ok(true) };
    Ok(record(kept)?.is_some_and(|record| record.contains(&digest(&old.text))))
}

/// Whether nobody has given or taken rights since.
fn has_same_access(file: &Replacing, kept: &File) -> io::Result<bool> {
    let Some(old) = file.old() else { return Ok(true) };
    Ok(Attributes::of(&old.file)?.lets_in_the_same(&Attributes::of(kept)?))
}

fn free_name(file: &Replacing) -> io::Result<OsString> {
    let name = beside(file.name(), EDITED);
    match rustix::fs::statat(file.dir(), &name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(name),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is in the way (move it)", name.display())))
        }
        Err(error) => Err(error.into()),
    }
}

fn put_back(file: &Replacing, kept: &File, away: Option<&OsStr>) -> io::Result<()> {
    let (dir, before) = (file.dir(), beside(file.name(), BEFORE));
    if file.old().is_none() {
        file.rename_new(&before, file.name())?;
    } else {
        if let Some(away) = away {
            // As a second name, so that it is there whatever comes next.
            rustix::fs::linkat(dir, file.name(), dir, away, AtFlags::empty())?;
        }
        let exchanged = file.exchange_with(&before, || file.flush_names());
        if let (Err(_), Some(away)) = (&exchanged, away) {
            let _ = rustix::fs::unlinkat(dir, away, AtFlags::empty());
        }
        exchanged?;
        // One that stays is known to the next run by the record on the file that is back.
        if remove(file, BEFORE).is_err() {
            return Ok(());
        }
    }
    let _ = forget(kept);
    let _ = remove(file, ABSENT);
    Ok(())
}

/// Takes the file away that was not there before.
fn put_away(file: &Replacing, away: Option<&OsStr>) -> io::Result<()> {
    let spare = file.name_of_next();
    if away.is_none() {
        // A killed process left it.
        remove_name(file, &spare)?;
    }
    let to = away.unwrap_or(&spare);
    file.rename_new(file.name(), to)?;
    if let Err(error) = file.leads_to_old(to).and_then(|()| file.flush_names()) {
        file.rename_new(to, file.name())?;
        return Err(error);
    }
    // Either that stays is taken over by the next run.
    let _ = remove(file, ABSENT);
    if away.is_none() {
        let _ = remove_name(file, &spare);
    }
    Ok(())
}

/// What we wrote, as far as anybody knows.
fn record(kept: &File) -> io::Result<Option<String>> {
    for name in RECORDS {
        match whole(|buffer| rustix::fs::fgetxattr(kept, name, buffer)) {
            Ok(record) => return Ok(Some(String::from_utf8_lossy(&record).into_owned())),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Where nothing can be recorded, an undo takes the administrator's word for it.
fn write_record(kept: &File, record: &str) -> io::Result<()> {
    for name in RECORDS {
        match rustix::fs::fsetxattr(kept, name, record.as_bytes(), XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {}
            set => return Ok(set?),
        }
    }
    Ok(())
}

fn forget(kept: &File) -> io::Result<()> {
    for name in RECORDS {
        match rustix::fs::fremovexattr(kept, name) {
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// FNV-1a of 128 bits (draft-eastlake-fnv): it tells an edit from none, and guards against nobody.
fn digest(text: &[u8]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let digest = text.iter().fold(BASIS, |digest, byte| (digest ^ u128::from(*byte)).wrapping_mul(PRIME));
    format!("{digest:032x}")
}

fn is_the_same(this: &File, other: &File) -> io::Result<bool> {
    Ok(is_one(&rustix::fs::fstat(this)?, &rustix::fs::fstat(other)?))
}

fn beside(name: &OsStr, suffix: &str) -> OsString {
    let mut beside = name.to_owned();
    beside.push(suffix);
    beside
}

fn remove(file: &Replacing, suffix: &str) -> io::Result<()> {
    remove_name(file, &beside(file.name(), suffix))
}

fn remove_name(file: &Replacing, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(file.dir(), name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}
