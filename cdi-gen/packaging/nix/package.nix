# Beside the sources that `cargo xtask dist` makes: nix-build -E 'with import <nixpkgs> { }; callPackage ./package.nix { }'
{ lib, coreutils, rustPlatform, zstd }:
let
  version = "@VERSION@";
  archive = ./. + "/cdi-tools-${version}.tar.zst";
in
rustPlatform.buildRustPackage {
  pname = "cdi-tools";
  inherit version;
  # sha256 of it: @SHA256@
  src = archive;
  nativeBuildInputs = [ zstd ];
  cargoLock.lockFile = ./Cargo.lock;
  cargoBuildFlags = [ "--package=cdi-gen" "--package=cdi-apply" ];
  # Tests of the whole workspace want engines and a C compiler's loader; those of the crates do not.
  cargoTestFlags = [ "--package=cdi-specs" ];
  postInstall = ''
    install -Dm644 cdi-gen/packaging/udev/71-cdi-gen.rules -t $out/lib/udev/rules.d
    sed -i "s,/usr/bin/systemctl,/run/current-system/sw/bin/systemctl,; s,/usr/bin/env,${coreutils}/bin/env,; \
      s,/usr/bin/cdi-gen,$out/bin/cdi-gen," $out/lib/udev/rules.d/71-cdi-gen.rules
    cargo run --offline --package xtask -- documents documents
    cp -r documents/usr/share $out/share
  '';
  meta = {
    description = "@SUMMARY@";
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
  };
}
