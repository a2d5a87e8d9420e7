/* Loads the libraries that it is given the names of, as a program of a container would. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW);
        printf("%s: %s\n", argv[i], library ? "loaded" : dlerror());
        if (!library) failed = 1;
    }
    return failed;
}
