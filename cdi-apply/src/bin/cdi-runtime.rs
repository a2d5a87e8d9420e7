//! cdi-runtime, the program: `cdi-apply runtime` by a name of its own, for engines that take one program for a runtime.

use std::process::ExitCode;

use cdi_apply::runtime::limits::Refusing;

/// musl's allocator would ask the kernel for each few pages.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: Refusing<dlmalloc::GlobalDlmalloc> = Refusing(dlmalloc::GlobalDlmalloc);
#[cfg(not(target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: Refusing<std::alloc::System> = Refusing(std::alloc::System);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    // The reason was told where the engine looks for it.
    let _told = cdi_apply::runtime::run(&words);
    ExitCode::FAILURE
}
