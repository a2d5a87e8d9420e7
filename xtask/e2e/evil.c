/* What an image would have a hook load (CVE-2025-23266): leaves a mark where only the host has a directory. */
#include <stdio.h>

__attribute__((constructor)) static void leave_a_mark(void) {
    FILE *mark = fopen(MARK, "w");
    if (mark) fclose(mark);
}
