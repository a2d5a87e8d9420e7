# services.cdi-gen.enable = true;
{ config, lib, pkgs, ... }:
let
  cfg = config.services.cdi-gen;
in
{
  options.services.cdi-gen = {
    enable = lib.mkEnableOption "the CDI spec of the NVIDIA GPUs";
    package = lib.mkOption { type = lib.types.package; description = "The package of cdi-gen."; };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    systemd.services.cdi-gen-refresh = {
      description = "CDI spec of the NVIDIA GPUs";
      wantedBy = [ "multi-user.target" ];
      before = [ "containerd.service" "crio.service" "docker.service" "podman.service" ];
      # The driver changes with the system, and so does this unit.
      restartTriggers = [ config.hardware.nvidia.package ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${cfg.package}/bin/cdi-gen refresh";
        RuntimeDirectory = "cdi";
        RuntimeDirectoryPreserve = true;
      };
    };
    # The rules of udev start this one.
    systemd.services.cdi-gen-changed = {
      description = "Changes of the NVIDIA driver, for the CDI spec";
      after = [ "cdi-gen-refresh.service" ];
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${pkgs.coreutils}/bin/sleep 1";
        ExecStopPost = "-${config.systemd.package}/bin/systemctl --no-block restart cdi-gen-refresh.service";
      };
    };
    services.udev.packages = [ cfg.package ];
  };
}
