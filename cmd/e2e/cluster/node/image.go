package node

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Image writes an OCI archive to w: one static program in an empty file system,
// which starts as the user nobody where the pod does not say otherwise. The
// reference is a full one, as localhost/testapp:1, so that nobody looks for it
// in a registry.
func Image(w io.Writer, reference, program string) error {
	name := filepath.Base(program)
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := archive(
		entry{"bin/", 0o755, nil},
		entry{"bin/" + name, 0o755, text},
		entry{"etc/", 0o755, nil},
		entry{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n")},
		entry{"tmp/", 0o1777, nil},
	)
	if err != nil {
		return err
	}
	platform := object{"architecture": runtime.GOARCH, "os": "linux"}
	config := marshal(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": []string{"/bin/" + name}, "Env": []string{"PATH=/bin"}, "WorkingDir": "/", "User": "65534:65534"},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	manifest := marshal(object{
		"schemaVersion": 2, "mediaType": ociType + "manifest.v1+json",
		"config": describe("config.v1+json", config),
		"layers": []object{describe("layer.v1.tar", layer)},
	})
	described := describe("manifest.v1+json", manifest)
	described["platform"] = platform
	described["annotations"] = object{
		"io.containerd.image.name":          reference,
		"org.opencontainers.image.ref.name": reference[strings.LastIndex(reference, ":")+1:],
	}
	index := marshal(object{"schemaVersion": 2, "mediaType": ociType + "index.v1+json", "manifests": []object{described}})
	whole, err := archive(
		entry{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		blob(layer), blob(config), blob(manifest),
		entry{"index.json", 0o644, index},
	)
	if err == nil {
		_, err = w.Write(whole)
	}
	return err
}

const ociType = "application/vnd.oci.image."

type object = map[string]any

// marshal is for objects of our own making, which always can be.
func marshal(o object) []byte {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return text
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(kind string, b []byte) object {
	return object{"mediaType": ociType + kind, "digest": digest(b), "size": len(b)}
}

// An entry of an archive is a folder where its name ends in a slash.
type entry struct {
	name string
	mode int64
	text []byte
}

func blob(b []byte) entry {
	return entry{"blobs/sha256/" + strings.TrimPrefix(digest(b), "sha256:"), 0o644, b}
}

func archive(entries ...entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
