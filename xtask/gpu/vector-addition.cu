// Adds two vectors on the first GPU and checks each sum.
#include <cstdio>

__global__ void add(const float *a, const float *b, float *sum, int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) sum[at] = a[at] + b[at];
}

int main() {
    const int count = 1 << 20;
    static float values[count];
    for (int at = 0; at < count; at++) values[at] = at;
    float *a, *b, *sum;
    cudaError_t error = cudaMalloc(&a, sizeof values);
    if (!error) error = cudaMalloc(&b, sizeof values);
    if (!error) error = cudaMalloc(&sum, sizeof values);
    if (!error) error = cudaMemcpy(a, values, sizeof values, cudaMemcpyHostToDevice);
    if (!error) error = cudaMemcpy(b, values, sizeof values, cudaMemcpyHostToDevice);
    if (!error) add<<<(count + 255) / 256, 256>>>(a, b, sum, count);
    if (!error) error = cudaMemcpy(values, sum, sizeof values, cudaMemcpyDeviceToHost);
    if (error) return printf("CUDA: %s\n", cudaGetErrorString(error)), 1;
    for (int at = 0; at < count; at++)
        if (values[at] != 2.0f * at) return printf("sum %d is wrong\n", at), 1;
    cudaDeviceProp device;
    int devices;
    cudaGetDeviceProperties(&device, 0);
    cudaGetDeviceCount(&devices);
    printf("vector addition right on %s, %d device(s)\n", device.name, devices);
}
