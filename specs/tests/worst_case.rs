//! The worst that a text can do: each is read or refused within the time and the memory that the crate promises.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cdi_specs::{Format, MAX_TEXT_BYTES, parse, validate};

/// What is promised, for the text and all that is made of it.
const MOST_MEMORY: usize = 64 << 20;
/// A watchdog for programs that are not optimised; optimised ones take less than half a second.
const LONGEST: Duration = Duration::from_secs(20);

/// The system's allocator, with the bytes in use and the most that there were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    MOST.fetch_max(IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    /// Moves pages where it is large, and copies none: what there was before does not count twice.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        grown(size);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As long as a text may be.
fn filled(head: &str, part: &str, tail: &str) -> String {
    format!("{head}{}{tail}", part.repeat((MAX_TEXT_BYTES - head.len() - tail.len()) / part.len()))
}

/// Numbered parts, as many as there may be.
fn numbered(head: &str, part: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for number in 0.. {
        let part = part(number);
        if text.len() + part.len() > MAX_TEXT_BYTES {
            break;
        }
        text += &part;
    }
    text
}

fn nested(open: &str, levels: usize) -> String {
    (0..levels).map(|level| " ".repeat(level) + open + "\n").collect()
}

fn texts() -> Vec<String> {
    let edits = "containerEdits:\n  env: &e [A=b, A=b, A=b, A=b]\ndevices:\n";
    let merged = "annotations: &a {a: b}\ndevices:\n";
    vec![
        // Depth.
        filled("", "[", ""),
        filled("x: a\n  \"\ny: ", "[", ""),
        filled("x: a\n  '\ny: ", "[", ""),
        filled("", "[{a: ", ""),
        filled("", "{a: ", ""),
        filled("", "{\"a\":", ""),
        filled("", "[\n", ""),
        filled("", "- ", ""),
        filled("", "? ", ""),
        filled("", "[? ", ""),
        filled("", "a: - ", ""),
        nested("a:", 2800),
        nested("-", 2800),
        filled(&"[".repeat(60), "a: b, ", ""),
        // Many parts.
        filled("devices:\n", "- {}\n", ""),
        filled("devices: [", "{},", "{}]"),
        filled("{\"devices\":[", "{},", "{}]}"),
        filled("devices:\n", "-\n", ""),
        filled("devices:\n", "- name: a\n", ""),
        filled("devices:\n", "- containerEdits: {}\n", ""),
        filled("devices:\n", "- annotations: {a: b}\n", ""),
        filled("{\"devices\":[", r#"{"annotations":{"a":""}},"#, "{}]}"),
        filled("{\"devices\":[", r#"{"containerEdits":{"hooks":[{}],"mounts":[{}],"deviceNodes":[{}]}},"#, "{}]}"),
        filled("{\"devices\":[", r#"{"containerEdits":{"env":[""]}},"#, "{}]}"),
        // Parsed, and wrong in each part.
        format!("{{\"devices\":[{}{{}}]}}", "{},".repeat(110_000)),
        format!("{{\"devices\":[{}{{}}]}}", r#"{"containerEdits":{"env":[""]}},"#.repeat(80_000)),
        format!("{{\"devices\":[{}{{}}]}}", r#"{"name":"a","annotations":{"":""}},"#.repeat(40_000)),
        filled("containerEdits:\n  mounts:\n", "  - hostPath: a\n", ""),
        filled("{\"containerEdits\":{\"mounts\":[", r#"{"options":[""]},"#, "{}]}}"),
        filled("containerEdits:\n  env:\n", "  - a\n", ""),
        filled("containerEdits:\n  additionalGids:\n", "  - 0\n", ""),
        filled("{\"containerEdits\":{\"additionalGids\":[", "0,", "0]}}"),
        filled("{\"containerEdits\":{\"env\":[", "\"\",", "\"\"]}}"),
        numbered("annotations:\n", |number| format!("  a{number}: b\n")),
        numbered("{\"annotations\":{\"a\":\"\"", |number| format!(",\"{number}\":\"\"")) + "}}",
        // One long part.
        filled("kind: ", "a", ""),
        filled("kind: \"", "a", "\""),
        filled("kind: \"", "\\n", "\""),
        filled("kind: '", "''", "'"),
        filled("kind: |\n", "  a\n", ""),
        filled("kind: |\n", "\n", ""),
        filled("kind: >\n", "  a\n\n", ""),
        filled("kind: ", "a\n  ", ""),
        filled("{\"kind\":\"", "a", "\"}"),
        filled("{\"kind\":\"", "\\u0041", "\"}"),
        filled("", "a", ": b"),
        filled("{\"", "a", "\":0}"),
        filled("annotations: {\"", "a", "\": [b]}"),
        filled("annotations:\n  ? ", "a", "\n  : [b]"),
        filled("? ", "a", "\n: b"),
        filled("kind: !", "a", " b"),
        filled("kind: !<", "%41", "> b"),
        filled("kind: &", "a", " b"),
        filled("kind: *", "a", ""),
        // Numbers.
        filled("{\"containerEdits\":{\"additionalGids\":[", "9", "]}}"),
        filled("{\"containerEdits\":{\"additionalGids\":[1e", "9", "]}}"),
        filled("{\"containerEdits\":{\"additionalGids\":[0.", "9", "]}}"),
        filled("containerEdits: {additionalGids: [", "9", "]}"),
        filled("containerEdits: {additionalGids: [0.", "9", "]}"),
        filled("containerEdits: {additionalGids: [0x", "f", "]}"),
        // Aliases.
        filled(edits, "- {name: a, containerEdits: {env: *e}}\n", ""),
        filled(&format!("kind: &a {}\ndevices:\n", "x".repeat(1 << 20)), "- {name: *a}\n", ""),
        filled(
            &format!("containerEdits:\n  env: &e [{}]\ndevices:\n", "'',".repeat(9_999)),
            "- {containerEdits: {env: *e}}\n",
            "",
        ),
        filled(
            &format!("containerEdits:\n  env: &e [{}]\n<<: {{}}\ndevices:\n", "'',".repeat(9_999)),
            "- {containerEdits: {env: *e}}\n",
            "",
        ),
        filled(merged, "- {<<: *a}\n", ""),
        filled(merged, "- {<<: [*a, *a]}\n", ""),
        filled("<<: {}\ndevices:\n", "- {a: b}\n", ""),
        numbered("", |number| format!("- &a{number} b\n")),
        (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
            let below = level - 1;
            text + &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 9].join(","))
        }) + "<<: *a11\n",
        // What is around a document.
        filled("", "# comment\n", ""),
        filled("", "\n", ""),
        filled("", " ", ""),
        filled("", "\r\n", ""),
        filled("", "---\n", ""),
        filled("", "--- a\n", ""),
        filled("kind: a/b\n", "...\n", ""),
        filled("%YAML 1.1\n", "#\n", "--- a"),
        numbered("", |number| format!("%TAG !a{number}! b\n")),
        format!("%TAG !a! {}\n---\n{}", "b".repeat(1 << 20), "- !a!b c\n".repeat(100_000)),
        filled("", "%YAML 1.1\n", ""),
        filled("", "\u{feff}", ""),
        filled("", "\u{85}", ""),
        // What a message makes longer.
        filled("", "\u{378}", ""),
        filled("devices: [", "\u{378}", "]"),
        filled("devices: [\"", "\\x01", "\"]"),
        filled("{\"devices\": [\"", "\\u0001", "\"]}"),
        filled("{\"kind\": [\"", "\u{378}", "\"]}"),
        filled("{\"devices\": [{\"", "\u{378}", "\": 1}]}"),
    ]
}

/// What becomes of a text: in words, with the time and the memory that it took, the text's own included.
fn outcome(text: &str, format: Format) -> (String, Duration, usize) {
    let before = IN_USE.load(Ordering::Relaxed) - text.len();
    MOST.store(0, Ordering::Relaxed);
    let begin = Instant::now();
    let words = match parse(text.as_bytes(), format) {
        Ok(spec) => format!("{} violations", validate(&spec).len()),
        Err(error) => error.to_string(),
    };
    (words, begin.elapsed(), MOST.load(Ordering::Relaxed).saturating_sub(before))
}

#[test]
fn the_worst_texts_are_read_or_refused_in_time_and_memory() {
    for text in texts() {
        let start: String = text.chars().take(40).collect();
        assert!(text.len() <= MAX_TEXT_BYTES, "{start:?}");
        // What does not start as JSON does is read as YAML in the end.
        let formats = if text.starts_with(['{', '[']) { vec![Format::Yaml, Format::Json] } else { vec![Format::Yaml] };
        for format in formats {
            let (words, took, most) = outcome(&text, format);
            let told: String = words.chars().take(90).collect();
            println!("{took:8.1?} {:3} MiB {format:?} {start:?}: {told}", most >> 20);
            assert!(took < LONGEST, "{start:?}: {took:?}");
            assert!(most < MOST_MEMORY, "{start:?}: {most} bytes");
            assert!(words.len() < 4096, "{start:?}: an answer of {} bytes", words.len());
        }
    }
}
