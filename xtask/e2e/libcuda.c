/* Stands in for libcuda: answers the two calls that gpu-check makes. */
int cuInit(unsigned int flags) { return flags == 0 ? 0 : 1; }

int cuDriverGetVersion(int *version) {
    *version = 13000;
    return 0;
}
