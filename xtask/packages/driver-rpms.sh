#!/bin/bash
# driver-rpms.sh LIBRARIES OUT: drivers of two versions as RPMs; LIBRARIES holds libcuda.so.VERSION and libnvidia-ml.so.VERSION.
set -e
libraries=$1 out=$2 work=$(mktemp -d)
trap 'rm -rf $work' EXIT
# build PART VERSION COMMANDS FILES
build() {
    cat > "$work/driver.spec" <<S
Name: driver-$1
Version: $2
Release: 1
Summary: a part of a driver
License: none
AutoReqProv: no
%description
A part of a driver.
%install
$3
%files
$4
S
    rpmbuild -bb --quiet --target x86_64-linux --buildroot "$work/root" --define "_topdir $work" --define "_rpmdir $out" \
        --define '_rpmfilename %{name}-%{version}-%{release}.%{arch}.rpm' --define "_dbpath $work/db" \
        --define 'debug_package %{nil}' --define '__os_install_post %{nil}' --define '_build_id_links none' "$work/driver.spec"
}
for version in 550.163.01 580.159.04; do
    library() { echo "install -D -m755 $libraries/$1.$version %{buildroot}/usr/lib64/$1.$version; ln -s $1.$version %{buildroot}/usr/lib64/$1.1"; }
    firmware=/usr/lib/firmware/nvidia/$version
    build libs $version "$(library libcuda.so)
$(library libnvidia-ml.so)" '/usr/lib64/*'
    build cuda $version 'install -D -m755 /bin/true %{buildroot}/usr/bin/nvidia-smi' /usr/bin/nvidia-smi
    build firmware $version "mkdir -p %{buildroot}$firmware; echo firmware > %{buildroot}$firmware/gsp_ga10x.bin" $firmware
done
