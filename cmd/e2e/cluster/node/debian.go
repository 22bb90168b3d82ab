package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// packages are containerd, the runtime, the network plugins and nft, and the
// libraries that a bare Debian lacks for them.
var packages = strings.Fields(`
	containerd crun containernetworking-plugins nftables
	libyajl2 libseccomp2 libcap2 libsystemd0 libnftables1 libjansson4 libnftnl11
	libmnl0 libxtables12 libedit2 libgmp10 libbsd0 libmd0 libtinfo6`)

// debianRoot is the folder that the packages are unpacked in: another list of
// packages, another folder.
func debianRoot() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(packages, " ")))
	return filepath.Join(cache, "sedge-cluster", "debian-"+hex.EncodeToString(sum[:4])), nil
}

// Debian unpacks the packages that a node needs where that was not done before,
// and returns the folder. Nothing is installed on this machine.
func Debian(ctx context.Context) (string, error) {
	root, err := debianRoot()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(root), "unpacking-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := download(ctx, work); err != nil {
		return "", fmt.Errorf("download Debian packages: %w", err)
	}
	unpacked := filepath.Join(work, "root")
	if err := unpack(ctx, work, unpacked); err != nil {
		return "", err
	}
	return root, os.Rename(unpacked, root)
}

// download reads the lists of packages anew only where they are missing or old.
func download(ctx context.Context, dir string) error {
	get := append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, packages...)
	err := run(ctx, dir, "apt-get", get...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := run(ctx, dir, "apt-get", "-q", "update"); err != nil {
		return err
	}
	return run(ctx, dir, "apt-get", get...)
}

func unpack(ctx context.Context, dir, root string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err == nil && len(debs) < len(packages) {
		err = fmt.Errorf("%d packages came, not %d", len(debs), len(packages))
	}
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if err := run(ctx, dir, "dpkg", "-x", deb, root); err != nil {
			return err
		}
	}
	// Some libraries are in /lib, which a machine has as a link to /usr/lib.
	if err := run(ctx, dir, "cp", "-a", filepath.Join(root, "lib")+"/.", filepath.Join(root, "usr/lib")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(root, "lib")), os.RemoveAll(filepath.Join(root, "usr/share")))
}

func run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}
