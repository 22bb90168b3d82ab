package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

// agentName is the program of nodes, as it is signed.
const agentName = "sedge-agent"

// releaseTime is within which the body of a release comes: at 220 KiB a second.
const releaseTime = 10 * time.Minute

func (h *Hub) listReleases(r *request) (any, error) {
	is, _, err := h.Ledger.Versions(r.Context(), -1)
	return map[string][]edge.Release{"releases": append([]edge.Release{}, is.Releases...)}, err
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

func (h *Hub) release(w http.ResponseWriter, r *request) (is edge.Release, err error) {
	p := r.params("signature")
	is.Signature = p.text("signature", 2<<10)
	who, err := r.who()
	if err = cmp.Or(p.err, err); err != nil {
		return is, err
	}
	program, version, platform, err := upgrade.SignedAs(is.Signature)
	switch {
	case err != nil:
		return is, invalid("sign it with: minisign -S -t 'sedge-agent VERSION PLATFORM' -m FILE", "signature: %s", err)
	case program != agentName:
		return is, invalid("", "what is signed is %.64q, and nodes run %s", program, agentName)
	}
	is.Version, is.Platform = version, platform
	until := time.Now().Add(releaseTime)
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(until), control.SetWriteDeadline(until.Add(time.Minute))); err != nil {
		return is, fmt.Errorf("give the release time: %w", err)
	}
	file, err := spool(http.MaxBytesReader(w, r.Body, edge.MaxRelease), &is)
	if err != nil {
		return is, err
	}
	defer file.Close()
	return is, refused(h.Ledger.PutRelease(who, is, file), "release")
}

// spool returns a file, which nobody else sees, with what body says, and notes in is what
// that is. Thus the ledger is kept busy only once all is here.
func spool(body io.Reader, is *edge.Release) (_ *os.File, err error) {
	file, err := os.CreateTemp("", "sedge-release-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	sum := sha256.New()
	is.Size, err = io.Copy(io.MultiWriter(file, sum), body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the release is larger than %d MiB", edge.MaxRelease>>20)}
	}
	if err == nil && is.Size == 0 {
		return nil, invalid("", "the body is empty: it is to be the program")
	}
	if err != nil {
		return nil, fmt.Errorf("receive the release: %w", err)
	}
	is.Digest = hex.EncodeToString(sum.Sum(nil))
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

func (h *Hub) removeRelease(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	return nil, refused(h.Ledger.RemoveRelease(who, r.PathValue("version"), r.PathValue("platform")), "release")
}

func (h *Hub) listUpgrades(r *request) (any, error) {
	is, _, err := h.Ledger.Versions(r.Context(), -1)
	return map[string][]edge.UpgradeRollout{"upgrades": append([]edge.UpgradeRollout{}, is.Upgrades...)}, err
}

func (h *Hub) beginUpgrade(r *request) (any, error) {
	var ask edge.UpgradeAsk
	who, err := r.who()
	if err = cmp.Or(err, r.decode(&ask)); err != nil {
		return nil, err
	}
	if _, err := selector.Parse(ask.Selector); err != nil {
		return nil, invalid("like site=home", "selector: %s", err)
	}
	if err := h.hasRelease(r.Context(), ask.Version); err != nil {
		return nil, err
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

func (h *Hub) hasRelease(ctx context.Context, version string) error {
	is, _, err := h.Ledger.Versions(ctx, -1)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(is.Releases, func(r edge.Release) bool { return r.Version == version }) {
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no release %.64q", version), Hint: "have the hub keep it: sedge upgrade push FILE"}
	}
	return nil
}

// upgradeSteps are what an operator may want of an upgrade.
var upgradeSteps = map[string]func(r edge.Rollout, by string, now time.Time) (edge.Rollout, error){
	"pause":   func(r edge.Rollout, by string, _ time.Time) (edge.Rollout, error) { return rollout.Pause(r, by) },
	"resume":  rollout.Resume,
	"promote": rollout.Promote,
	"abort":   rollout.Abort,
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
	step, ok := upgradeSteps[r.PathValue("step")]
	if !ok {
		return nil, noPath(r.Request)
	}
	u, err := h.Fleet.SteerUpgrade(id, who, step)
	if err != nil {
		return nil, refused(err, "upgrade")
	}
	return u, nil
}
