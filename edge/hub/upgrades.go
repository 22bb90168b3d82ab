package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/semver"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
)

// releaseTime is within which the body of a release comes, at 220 KiB a second.
const releaseTime = 10 * time.Minute

func (h *Hub) listReleases(r *request) (any, error) {
	list, _, err := h.Ledger.Releases(r.Context())
	return map[string][]edge.Release{"releases": append([]edge.Release{}, list...)}, err
}

// putRelease takes a program as it comes, whole or not at all.
func (h *Hub) putRelease(w http.ResponseWriter, r *http.Request) {
	release, err := h.release(w, &request{r, nil, w.Header()})
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.answer(w, r, http.StatusOK, release)
}

func (h *Hub) release(w http.ResponseWriter, r *request) (edge.Release, error) {
	is := edge.Release{Version: r.PathValue("version"), Platform: r.PathValue("platform")}
	p := r.params("signature")
	is.Signature = p.text("signature", 2<<10)
	who, err := r.who()
	if err = errors.Join(p.err, err); err != nil {
		return is, err
	}
	switch {
	case !semver.IsValid(is.Version) || len(is.Version) > 64:
		return is, invalid("like v1.4.0", "%.70q is no version", is.Version)
	case is.Platform == "" || len(is.Platform) > 32:
		return is, invalid("like linux/arm64", "%.40q is no platform", is.Platform)
	case is.Signature == "":
		return is, invalid("sign it with minisign", "the signature is missing, and no node takes a version without one")
	case h.Fleet.Releases == "":
		return is, &edge.Error{Code: edge.Conflict, Message: "this hub keeps no releases"}
	}
	until := time.Now().Add(releaseTime)
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(until), control.SetWriteDeadline(until.Add(time.Minute))); err != nil {
		return is, fmt.Errorf("give the release time: %w", err)
	}
	if err := h.store(http.MaxBytesReader(w, r.Body, edge.MaxRelease), &is); err != nil {
		return is, err
	}
	return is, refused(h.Ledger.PutRelease(who, is), "release")
}

// store keeps body under its digest.
func (h *Hub) store(body io.Reader, is *edge.Release) error {
	if err := os.MkdirAll(h.Fleet.Releases, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(h.Fleet.Releases, ".part-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // once it is renamed there is none
	defer file.Close()
	sum := sha256.New()
	is.Size, err = io.Copy(io.MultiWriter(file, sum), body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the release is larger than %d MiB", edge.MaxRelease>>20)}
	}
	if err == nil && is.Size == 0 {
		return invalid("", "the body is empty: it is to be the program")
	}
	if err = errors.Join(err, file.Sync()); err != nil {
		return fmt.Errorf("keep the release: %w", err)
	}
	is.Digest = hex.EncodeToString(sum.Sum(nil))
	return os.Rename(file.Name(), filepath.Join(h.Fleet.Releases, is.Digest))
}

func (h *Hub) removeRelease(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	list, _, err := h.Ledger.Releases(r.Context())
	if err != nil {
		return nil, err
	}
	version, platform := r.PathValue("version"), r.PathValue("platform")
	if err := h.Ledger.RemoveRelease(who, version, platform); err != nil {
		return nil, refused(err, "release")
	}
	i := slices.IndexFunc(list, func(is edge.Release) bool { return is.Version == version && is.Platform == platform })
	if i < 0 {
		return nil, nil
	}
	digest := list[i].Digest
	if slices.ContainsFunc(slices.Delete(list, i, i+1), func(is edge.Release) bool { return is.Digest == digest }) {
		return nil, nil
	}
	return nil, os.Remove(filepath.Join(h.Fleet.Releases, digest))
}

func (h *Hub) listUpgrades(r *request) (any, error) {
	_, list, err := h.Ledger.Releases(r.Context())
	return map[string][]edge.UpgradeRollout{"upgrades": append([]edge.UpgradeRollout{}, list...)}, err
}

func (h *Hub) beginUpgrade(r *request) (any, error) {
	var ask edge.UpgradeAsk
	who, err := r.who()
	if err = errors.Join(err, r.decode(&ask)); err != nil {
		return nil, err
	}
	if _, err := selector.Parse(ask.Selector); err != nil {
		return nil, invalid("like site=home", "selector: %s", err)
	}
	list, _, err := h.Ledger.Releases(r.Context())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(is edge.Release) bool { return is.Version == ask.Version }) {
		return nil, &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no release %.64q", ask.Version), Hint: "sedge upgrade push FILE --version VERSION"}
	}
	u, err := rollout.BeginUpgrade(ask)
	if err != nil {
		return nil, err
	}
	u, err = h.Ledger.BeginUpgrade(who, u)
	if err != nil {
		return nil, refused(err, "upgrade")
	}
	return u, nil
}

func (h *Hub) steerUpgrade(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseInt(r.PathValue("upgrade"), 10, 64)
	if err != nil || id < 1 {
		return nil, invalid("", "an upgrade has a number, not %.40q", r.PathValue("upgrade"))
	}
	verb := r.PathValue("verb")
	if !slices.Contains([]string{"pause", "resume", "promote", "abort"}, verb) {
		return nil, noPath(r.Request)
	}
	u, err := h.Fleet.SteerUpgrade(id, verb, who)
	if err != nil {
		return nil, refused(err, "upgrade")
	}
	return u, nil
}
