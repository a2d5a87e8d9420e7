#!/bin/sh
# In the APKBUILD: triggers="$pkgname.trigger=/usr/lib:/usr/bin:/usr/glibc-compat/lib:/lib/firmware/nvidia/*:/usr/lib/firmware/nvidia/*"
# A path is one directory and not what is below it. A failure would leave the package broken in apk's eyes.
/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/bin/cdi-gen refresh --quiet || :
