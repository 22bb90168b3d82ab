package settings

import "runtime/debug"

// stamp is the version of a release: the linker writes it, see VERSION in the Makefile.
var stamp string

// Version returns which build of the project this program is.
func Version() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
