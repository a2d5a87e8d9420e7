/* Runs in a container and prints one key=value line for each thing that a CDI device must have brought.
 * Usage: gpu-check DRIVER-VERSION [NODE-THAT-NOBODY-ASKED-FOR] */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The directory of the library that a function came from. */
static void note_directory(void *function, char *directory) {
    Dl_info info;
    if (!dladdr(function, &info)) return;
    snprintf(directory, PATH_MAX, "%s", info.dli_fname);
    char *slash = strrchr(directory, '/');
    if (slash) *slash = 0;
}

static void cuda(char *directory) {
    int version = 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    int (*get)(int *) = library ? dlsym(library, "cuDriverGetVersion") : NULL;
    if (!get) {
        printf("cuda=%s\n", dlerror());
        return;
    }
    note_directory((void *)get, directory);
    int rc = get(&version);
    printf("cuda=%d\n", rc ? -rc : version);
}

static void nvml(char *directory) {
    char version[80] = "";
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    int (*init)(void) = library ? dlsym(library, "nvmlInit_v2") : NULL;
    int (*get)(char *, unsigned int) = library ? dlsym(library, "nvmlSystemGetDriverVersion") : NULL;
    if (!init || !get) {
        printf("nvml=%s\n", dlerror());
        return;
    }
    note_directory((void *)get, directory);
    int rc = init();
    if (!rc) rc = get(version, sizeof version);
    if (rc)
        printf("nvml=error %d\n", rc);
    else
        printf("nvml=%s\n", version);
}

/* A file counts if it can be read: a link that leads nowhere does not. */
static void readable(const char *key, const char *directory, const char *name, const char *version) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", directory, name, version);
    printf("%s=%s\n", key, access(path, R_OK) ? strerror(errno) : "yes");
}

static void node(const char *key, const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    printf("%s=%s\n", key, fd < 0 ? strerror(errno) : "opened");
}

/* Whether a node of the numbers that another has can be made, and used. */
static void made(const char *path) {
    const char *own = "/tmp/made";
    struct stat other;
    unlink(own);
    if (stat(path, &other) || mknod(own, S_IFCHR | 0666, other.st_rdev))
        printf("made=%s\n", strerror(errno));
    else
        node("made", own);
}

static int is_nvidia(const struct dirent *entry) { return strncmp(entry->d_name, "nvidia", 6) == 0; }

static void nodes(void) {
    struct dirent **entries;
    int count = scandir("/dev", &entries, is_nvidia, alphasort);
    printf("nodes=");
    for (int i = 0; i < count; i++) printf("%s%s", i ? " " : "", entries[i]->d_name);
    printf("\n");
}

int main(int argc, char **argv) {
    const char *version = argc > 1 ? argv[1] : "";
    const char *visible = getenv("NVIDIA_VISIBLE_DEVICES");
    char directory[PATH_MAX] = "/nowhere";
    char firmware[PATH_MAX];
    cuda(directory);
    nvml(directory);
    printf("directory=%s\n", directory);
    readable("libcuda.so", directory, "libcuda.so", "");
    readable("libcuda.so.1", directory, "libcuda.so.1", "");
    readable("libcuda.so.VERSION", directory, "libcuda.so.", version);
    readable("libnvidia-ml.so.1", directory, "libnvidia-ml.so.1", "");
    readable("libnvidia-ptxjitcompiler.so.1", directory, "libnvidia-ptxjitcompiler.so.1", "");
    readable("nvidia-smi", "/usr/bin", "nvidia-smi", "");
    snprintf(firmware, sizeof firmware, "/lib/firmware/nvidia/%s", version);
    readable("firmware", firmware, "gsp_ga10x.bin", "");
    printf("visible=%s\n", visible ? visible : "unset");
    node("nvidiactl", "/dev/nvidiactl");
    if (argc > 2) {
        node("unasked", argv[2]);
        made(argv[2]);
    }
    nodes();
    return 0;
}
