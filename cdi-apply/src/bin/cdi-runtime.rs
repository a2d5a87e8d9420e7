//! cdi-runtime, the program: `cdi-apply runtime` by a name of its own, for engines that take one program for a runtime.

use std::process::ExitCode;

/// musl's allocator would ask the kernel for each few pages.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    // The reason was told where the engine looks for it.
    let _told = cdi_apply::runtime::run(&words);
    ExitCode::FAILURE
}
