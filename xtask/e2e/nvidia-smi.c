/* Stands in for nvidia-smi: as the real one, nothing works without NVML from the loader's path. */
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!nvml) {
        printf("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system: %s\n", dlerror());
        return 12;
    }
    int (*get)(char *, unsigned int) = dlsym(nvml, "nvmlSystemGetDriverVersion");
    char version[80];
    if (!get || get(version, sizeof version) != 0) return 1;
    printf("GPU 0: NVIDIA H100 80GB HBM3 (driver %s)\n", version);
    return 0;
}
