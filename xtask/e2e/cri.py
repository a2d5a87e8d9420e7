#!/usr/bin/env python3
"""Runs one container through the CRI: cri.py REQUEST, a JSON object. Prints its output and ends with its exit code."""
import json
import pathlib
import sys
import time
import uuid

import grpc

import api_pb2 as api
import api_pb2_grpc

request = json.loads(sys.argv[1])
runtime = api_pb2_grpc.RuntimeServiceStub(grpc.insecure_channel("unix://" + request["socket"]))
# The host's network, so that no CNI plugin is needed.
namespaces = api.NamespaceOption(network=api.NODE, pid=api.CONTAINER, ipc=api.POD)
name = str(uuid.uuid4())
logs = pathlib.Path(request["log_directory"], name)
logs.mkdir()
pod = api.PodSandboxConfig(
    metadata=api.PodSandboxMetadata(name="e2e", uid=name, namespace="default"),
    log_directory=str(logs),
    linux=api.LinuxPodSandboxConfig(
        cgroup_parent=request["cgroup_parent"],
        security_context=api.LinuxSandboxSecurityContext(namespace_options=namespaces),
    ),
)
container = api.ContainerConfig(
    metadata=api.ContainerMetadata(name="e2e"),
    image=api.ImageSpec(image=request["image"]),
    command=request["command"],
    log_path="log",
    mounts=[api.Mount(container_path=request["device_mount"], host_path=request["device_mount"])],
    linux=api.LinuxContainerConfig(
        resources=api.LinuxContainerResources(),
        security_context=api.LinuxContainerSecurityContext(namespace_options=namespaces),
    ),
)
if request["devices"] and request["field"] == "annotation":
    container.annotations["cdi.k8s.io/e2e"] = ",".join(request["devices"])
elif request["field"] == "field":
    container.CDI_devices.extend(api.CDIDevice(name=device) for device in request["devices"])


def run(sandbox):
    created = runtime.CreateContainer(
        api.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=pod)
    )
    runtime.StartContainer(api.StartContainerRequest(container_id=created.container_id))
    while True:
        status = runtime.ContainerStatus(api.ContainerStatusRequest(container_id=created.container_id)).status
        if status.state == api.CONTAINER_EXITED:
            break
        time.sleep(0.02)
    # A line is: time, stream, tag, text.
    for line in (logs / "log").read_text().splitlines():
        print(line.split(" ", 3)[3])
    return status.exit_code


sandbox = runtime.RunPodSandbox(api.RunPodSandboxRequest(config=pod)).pod_sandbox_id
try:
    code = run(sandbox)
except grpc.RpcError as error:
    print(error.details(), file=sys.stderr)
    code = 1
finally:
    runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
sys.exit(code)
