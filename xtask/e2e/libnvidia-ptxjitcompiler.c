/* Stands in for the PTX compiler, which libcuda loads by its SONAME: only that it is there matters. */
const char nvidia_ptxjitcompiler[] = "stand-in";
