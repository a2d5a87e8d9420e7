#!/usr/bin/env python3
"""Runs one container through the CRI: cri.py REQUEST, a JSON object with the `socket`, the runtime `handler` and the
messages `pod` and `container`. Prints the container's output and ends with its exit code."""
import base64
import json
import pathlib
import sys
import time

import grpc
from google.protobuf.json_format import ParseDict

import api_pb2 as api
import api_pb2_grpc

request = json.loads(sys.argv[1])
runtime = api_pb2_grpc.RuntimeServiceStub(grpc.insecure_channel("unix://" + request["socket"]))
# In JSON protobuf's bytes are base64.
for variable in request["container"]["envs"]:
    variable["value"] = base64.b64encode(variable["value"].encode()).decode()
pod = ParseDict(request["pod"], api.PodSandboxConfig())
container = ParseDict(request["container"], api.ContainerConfig())


def run(sandbox):
    config = api.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=pod)
    container_id = runtime.CreateContainer(config).container_id
    runtime.StartContainer(api.StartContainerRequest(container_id=container_id))
    state = None
    while state != api.CONTAINER_EXITED:
        time.sleep(0.02)
        status = runtime.ContainerStatus(api.ContainerStatusRequest(container_id=container_id)).status
        state = status.state
    # A line is: time, stream, tag, text.
    for line in pathlib.Path(pod.log_directory, container.log_path).read_text().splitlines():
        print(line.split(" ", 3)[3])
    return status.exit_code


sandbox = runtime.RunPodSandbox(api.RunPodSandboxRequest(config=pod, runtime_handler=request["handler"])).pod_sandbox_id
try:
    code = run(sandbox)
except grpc.RpcError as error:
    print(error.details(), file=sys.stderr)
    code = 1
finally:
    runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
sys.exit(code)
