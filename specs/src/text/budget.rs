//! Budget: how much a YAML document asks of its reader, told by libyaml's own events.
//!
//! The reader of the serde_yaml family gathers all events of a document before it looks at the first, and keeps its
//! parser to itself. libyaml takes time in the square of the depth of flow collections, and aliases make much of little.
//! What guards a parser must see what the parser sees: to count brackets in the text is to guess where quotes begin. So
//! the same libyaml goes ahead, and is stopped at the first event too many. It tells events as it scans, and looks ahead
//! for no more than the 1,024 characters of a simple key (YAML 1.2, section 7.4.2): 4 MiB of `[` are refused after
//! 67 events and 1 ms, where the reader would take hours. Any text of [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES) takes
//! less than 50 ms.
#![expect(unsafe_code, reason = "libyaml's interface is C's: pointers, unions, and a parser that must not move")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use libyaml_rs as libyaml;

use super::MAX_SCALAR_BYTES;

/// A spec written by a sane tool needs 8.
const MAX_FLOW_DEPTH: usize = 64;
/// Bytes that the reader may need for a document, what stands behind an alias each time that it is used. The largest
/// specs seen need 0.5 MiB.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// What it needs for an event, beside its text.
pub(super) const EVENT_BYTES: usize = 128;

/// Why a document is not to be read, with the place: line and column, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub place: (usize, usize),
    pub reason: String,
}

/// Whether the first document of a text may be read. What libyaml cannot parse is for the reader to tell.
pub(super) fn check(text: &str) -> Result<(), Refusal> {
    check_directives(text)?;
    Count::default().document(text)
}

/// libyaml compares each `%TAG` with all before it, and writes its prefix out at each use. No spec needs one.
fn check_directives(text: &str) -> Result<(), Refusal> {
    let mut parser = Parser::new(text);
    while let Some((kind, place)) = parser.token() {
        match kind {
            libyaml::YAML_STREAM_START_TOKEN | libyaml::YAML_VERSION_DIRECTIVE_TOKEN => {}
            libyaml::YAML_TAG_DIRECTIVE_TOKEN => {
                return Err(Refusal { place, reason: "%TAG directives are not read: write the tags out".to_owned() });
            }
            _ => break,
        }
    }
    Ok(())
}

/// What was met so far.
#[derive(Default)]
struct Count {
    /// What the reader needs, with aliases written out.
    bytes: usize,
    /// Flow collections that are open; all that stands in one is one.
    flow_depth: usize,
    /// For each collection that is open what was needed before it, and its anchor.
    open: Vec<(usize, Option<Anchor>)>,
    /// What an alias stands for, in bytes.
    anchors: HashMap<Anchor, usize>,
}

impl Count {
    fn document(&mut self, text: &str) -> Result<(), Refusal> {
        let mut parser = Parser::new(text);
        while let Some(event) = parser.event().filter(|event| event.step != Step::DocumentEnd) {
            self.add(event)?;
        }
        Ok(())
    }

    fn add(&mut self, Event { step, text_bytes, place }: Event) -> Result<(), Refusal> {
        let refuse = |reason: String| Err(Refusal { place, reason });
        let needs = match &step {
            Step::Alias(anchor) => self.anchors.get(anchor).copied().unwrap_or(EVENT_BYTES),
            _ => EVENT_BYTES + text_bytes,
        };
        let before = self.bytes;
        self.bytes = self.bytes.saturating_add(needs);
        if text_bytes > MAX_SCALAR_BYTES {
            return refuse(format!("a text of more than {MAX_SCALAR_BYTES} bytes"));
        }
        if self.bytes > MAX_BYTES {
            return refuse(format!("to read it takes more than {MAX_BYTES} bytes of memory, aliases written out"));
        }
        match step {
            Step::Start { is_flow, anchor } => {
                self.flow_depth += usize::from(is_flow);
                if self.flow_depth > MAX_FLOW_DEPTH {
                    return refuse(format!("lists and maps in brackets nest deeper than {MAX_FLOW_DEPTH}"));
                }
                // Until it ends it has no end: it would be within itself.
                if anchor.as_ref().is_some_and(|anchor| !self.note(anchor, usize::MAX)) {
                    return refuse(TWICE.to_owned());
                }
                self.open.push((before, anchor));
            }
            Step::End => {
                self.flow_depth = self.flow_depth.saturating_sub(1);
                if let Some((before, Some(anchor))) = self.open.pop() {
                    self.anchors.insert(anchor, self.bytes - before);
                }
            }
            Step::Scalar(Some(anchor)) if !self.note(&anchor, needs) => return refuse(TWICE.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Whether an anchor is new: the reader mixes up those that are not.
    fn note(&mut self, anchor: &Anchor, stands_for: usize) -> bool {
        match self.anchors.entry(anchor.clone()) {
            Entry::Vacant(new) => {
                new.insert(stands_for);
                true
            }
            Entry::Occupied(_) => false,
        }
    }
}

const TWICE: &str = "an anchor is set twice: give each another name";

/// The name of an anchor.
type Anchor = Box<[u8]>;

/// What counts of an event.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Start { is_flow: bool, anchor: Option<Anchor> },
    End,
    Scalar(Option<Anchor>),
    Alias(Anchor),
    DocumentEnd,
    Other,
}

struct Event {
    step: Step,
    /// Of a scalar.
    text_bytes: usize,
    place: (usize, usize),
}

/// libyaml's parser, over a text that outlives it. It points into itself.
struct Parser<'t> {
    raw: Box<MaybeUninit<libyaml::yaml_parser_t>>,
    text: PhantomData<&'t str>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        let mut raw = Box::new(MaybeUninit::uninit());
        // SAFETY: it is initialised first (that fails where there is no memory, which aborts), stays where it is, and
        // the text outlives it.
        unsafe {
            let parser = raw.as_mut_ptr();
            let _ = libyaml::yaml_parser_initialize(parser);
            libyaml::yaml_parser_set_encoding(parser, libyaml::YAML_UTF8_ENCODING);
            libyaml::yaml_parser_set_input_string(parser, text.as_ptr(), text.len() as u64);
        }
        Self { raw, text: PhantomData }
    }

    /// The next token; `None` behind the last, and where the text is no YAML. Not to be mixed with [`Self::event`].
    fn token(&mut self) -> Option<(libyaml::yaml_token_type_t, (usize, usize))> {
        let mut token = MaybeUninit::uninit();
        // SAFETY: the parser is initialised; the token is written before it is read, and freed once.
        unsafe {
            if libyaml::yaml_parser_scan(self.raw.as_mut_ptr(), token.as_mut_ptr()).fail {
                return None;
            }
            let token = token.assume_init_mut();
            let told = (token.type_, place(&token.start_mark));
            libyaml::yaml_token_delete(token);
            (told.0 != libyaml::YAML_NO_TOKEN).then_some(told)
        }
    }

    /// The next event; `None` behind the last, and where the text is no YAML.
    fn event(&mut self) -> Option<Event> {
        let mut event = MaybeUninit::uninit();
        // SAFETY: the parser is initialised; the event is written before it is read, and freed once.
        unsafe {
            if libyaml::yaml_parser_parse(self.raw.as_mut_ptr(), event.as_mut_ptr()).fail {
                return None;
            }
            let event = event.assume_init_mut();
            let is_scalar = event.type_ == libyaml::YAML_SCALAR_EVENT;
            let text_bytes = if is_scalar { event.data.scalar.length } else { 0 };
            let text_bytes = usize::try_from(text_bytes).unwrap_or(usize::MAX);
            let told = Event { step: step(event), text_bytes, place: place(&event.start_mark) };
            let is_last = event.type_ == libyaml::YAML_NO_EVENT;
            libyaml::yaml_event_delete(event);
            (!is_last).then_some(told)
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and is not used again.
        unsafe { libyaml::yaml_parser_delete(self.raw.as_mut_ptr()) }
    }
}

/// # Safety
/// The event is one that libyaml made: its type says which of its data is set.
unsafe fn step(event: &libyaml::yaml_event_t) -> Step {
    // SAFETY: as the function's; each arm reads the data of its type.
    unsafe {
        match event.type_ {
            libyaml::YAML_SEQUENCE_START_EVENT => {
                let data = event.data.sequence_start;
                Step::Start { is_flow: data.style == libyaml::YAML_FLOW_SEQUENCE_STYLE, anchor: anchor(data.anchor) }
            }
            libyaml::YAML_MAPPING_START_EVENT => {
                let data = event.data.mapping_start;
                Step::Start { is_flow: data.style == libyaml::YAML_FLOW_MAPPING_STYLE, anchor: anchor(data.anchor) }
            }
            libyaml::YAML_SEQUENCE_END_EVENT | libyaml::YAML_MAPPING_END_EVENT => Step::End,
            libyaml::YAML_SCALAR_EVENT => Step::Scalar(anchor(event.data.scalar.anchor)),
            libyaml::YAML_ALIAS_EVENT => Step::Alias(anchor(event.data.alias.anchor).unwrap_or_default()),
            libyaml::YAML_DOCUMENT_END_EVENT => Step::DocumentEnd,
            _ => Step::Other,
        }
    }
}

/// # Safety
/// The name is null, or libyaml's: it ends in a NUL.
unsafe fn anchor(name: *mut u8) -> Option<Anchor> {
    let name = NonNull::new(name)?;
    // SAFETY: as the function's.
    Some(unsafe { CStr::from_ptr(name.as_ptr().cast()) }.to_bytes().into())
}

fn place(mark: &libyaml::yaml_mark_t) -> (usize, usize) {
    let from_one = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1);
    (from_one(mark.line), from_one(mark.column))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that were counted until a text was done or refused.
    fn counted(text: &str) -> (usize, Result<(), Refusal>) {
        let mut count = Count::default();
        let outcome = check_directives(text).and_then(|()| count.document(text));
        (count.bytes, outcome)
    }

    #[test]
    fn brackets_that_nest_are_counted_as_libyaml_reads_them() {
        let deep = |head: &str, level: &str| format!("{head}{}", level.repeat(60_000));
        let misleading = [
            deep("", "["),
            deep("", "[{a: "),
            deep("", "[? "),
            deep("", "{a: \n"),
            deep("x: a\n  \"\ny: ", "["),
            deep("x: a\n  '\ny: ", "["),
            deep("x: a\n  # '\ny: ", "["),
            deep("x: |\n  \"\ny: ", "["),
            deep("x: &a \"\n  \"\ny: ", "["),
            deep("- a: b'\n- ", "{a: "),
            deep("? '\n  : '\n: ", "["),
            deep("%YAML 1.1 # '\n--- ", "["),
            deep("\u{85}x: a\u{2028} \"\u{85}y: ", "["),
        ];
        for text in misleading {
            let (bytes, outcome) = counted(&text);
            let start: String = text.chars().take(20).collect();
            let refusal = outcome.expect_err(&start);
            assert!(refusal.reason.contains("nest deeper than 64"), "{start}: {refusal:?}");
            assert!(bytes <= 200 * EVENT_BYTES, "{start}: {bytes}");
        }
        let shallow = ["a: '[[['", "a: b [[[", "- X=[\n- X=[\n", "a: |\n  [[[\n", "# [[[\na: b", "a: \"[\\\"[[\""];
        for text in
            shallow.map(|text| text.replace("[[[", &"[".repeat(1000)).replace("- X=[\n", &"- X=[\n".repeat(1000)))
        {
            assert_eq!(counted(&text).1, Ok(()), "{}", &text[..9]);
        }
    }

    #[test]
    fn aliases_are_counted_as_often_as_they_are_used() {
        let refused = |text: String| {
            let (_, outcome) = counted(&text);
            outcome.unwrap_err().reason
        };
        let large = format!("- &a {}\n{}", "x".repeat(1 << 20), "- *a\n".repeat(20));
        assert!(refused(large).contains("aliases written out"));
        let list = format!("- &a [{}]\n{}", "x,".repeat(1000), "- *a\n".repeat(1000));
        assert!(refused(list).contains("aliases written out"));
        assert!(refused("- &a [*a]".to_owned()).contains("aliases written out"));
        assert!(refused("- &a x\n- &a [x]".to_owned()).contains("set twice"));
        let (bytes, outcome) = counted("- &a [x, y]\n- *a\n- *nothing\n---\n- *a");
        // The stream's and the document's start, the list, twice a list of two with its end, an alias, an end.
        assert_eq!((bytes, outcome), ((2 + 1 + 4 + 4 + 1 + 1) * EVENT_BYTES + 4, Ok(())));
    }

    #[test]
    fn tags_are_not_abbreviated() {
        for text in ["%TAG !a! b\n--- a", "# a\n%YAML 1.1\n%TAG ! b\n%TAG ! b\n--- a"] {
            let (bytes, outcome) = counted(text);
            assert!(bytes == 0 && outcome.unwrap_err().reason.contains("%TAG"), "{text}");
        }
        for text in ["%YAML 1.1\n--- !!str a", "a: b\n...\n%TAG !a! b\n--- a", "%\n", "%YAML\n", "", "\0"] {
            assert_eq!(counted(text).1, Ok(()), "{text}");
        }
    }
}
