package upgrade_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// enter returns the slots of a program of version v1.2.0 that trusts the vendor.
func enter(t *testing.T, dir string, v vendor) *upgrade.Slots {
	t.Helper()
	s := upgrade.Enter(upgrade.Place{Dir: dir, Program: "program", Version: "v1.2.0", Platform: upgrade.Platform()})
	s.Trust(v.file)
	if err := s.Report().Fault; err != nil {
		t.Fatal(err)
	}
	return s
}

// refused checks that an error is a refusal for the reason.
func refused(t *testing.T, err error, want upgrade.Reason) {
	t.Helper()
	r, ok := errors.AsType[*upgrade.Refusal](err)
	if !ok || r.Reason != want {
		t.Errorf("got %v, want a refusal for being %s", err, want)
	}
}

func TestOnlyWhatIsSignedAsWhatItIsOfferedAsIsTaken(t *testing.T) {
	v, stranger := newVendor(t), newVendor(t)
	content := []byte("a program")
	sound := v.offer(t, "v1.3.0", content)
	signed := func(comment string) string { return v.sign(t, comment, content) }
	for name, c := range map[string]struct {
		change func(o *upgrade.Offer)
		want   upgrade.Reason
	}{
		"another key":       {func(o *upgrade.Offer) { o.Signature = stranger.offer(t, "v1.3.0", content).Signature }, upgrade.RefusedUntrusted},
		"no signature":      {func(o *upgrade.Offer) { o.Signature = "" }, upgrade.RefusedUntrusted},
		"a huge signature":  {func(o *upgrade.Offer) { o.Signature += strings.Repeat("x", 2000) }, upgrade.RefusedUntrusted},
		"an old one as new": {func(o *upgrade.Offer) { o.Signature = v.offer(t, "v1.1.0", content).Signature }, upgrade.RefusedUntrusted},
		"a comment of one's own": {func(o *upgrade.Offer) {
			o.Signature = strings.Replace(v.offer(t, "v1.1.0", content).Signature, "v1.1.0", "v1.3.0", 1)
		}, upgrade.RefusedUntrusted},
		"another program": {func(o *upgrade.Offer) { o.Signature = signed("other v1.3.0 " + upgrade.Platform()) }, upgrade.RefusedUntrusted},
		"another machine": {func(o *upgrade.Offer) { o.Platform = "plan9/mips"; o.Signature = signed("program v1.3.0 plan9/mips") }, upgrade.RefusedPlatform},
		"an older one":    {func(o *upgrade.Offer) { *o = v.offer(t, "v1.2.0-rc.1", content) }, upgrade.RefusedOlder},
		"no version":      {func(o *upgrade.Offer) { o.Version = "../../etc" }, upgrade.RefusedMalformed},
		"no digest":       {func(o *upgrade.Offer) { o.Digest = "../" + o.Digest[3:] }, upgrade.RefusedMalformed},
		"no size":         {func(o *upgrade.Offer) { o.Size = 0 }, upgrade.RefusedMalformed},
		"too large":       {func(o *upgrade.Offer) { o.Size = upgrade.MaxSize + 1 }, upgrade.RefusedMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := sound
			c.change(&o)
			_, err := enter(t, dir, v).Offer(o)
			refused(t, err, c.want)
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("the refused offer left %v behind", entries)
			}
		})
	}
	older := v.offer(t, "v1.1.0", content)
	older.Downgrade = true
	if _, err := enter(t, t.TempDir(), v).Offer(older); err != nil {
		t.Errorf("an older one that an operator wants: %v, want nil", err)
	}
}

func TestWithoutATrustedKeyNothingIsTaken(t *testing.T) {
	v := newVendor(t)
	o := v.offer(t, "v1.3.0", []byte("a program"))
	s := enter(t, t.TempDir(), v)
	broken := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(broken, []byte("untrusted comment: none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", broken, "/nowhere"} {
		s.Trust(file)
		_, err := s.Offer(o)
		refused(t, err, upgrade.RefusedUntrusted)
	}
	s.Trust(v.file) // the file is read at each offer
	if _, err := s.Offer(o); err != nil {
		t.Errorf("with a key: %v, want nil", err)
	}
}

func TestAnArrivalGoesOnWhereItWasCutOff(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	content := bytes.Repeat([]byte("program "), 1000)
	o := v.offer(t, "v1.3.0", content)
	s := enter(t, dir, v)
	a := arrival(t, s, o)
	if err := a.Write(0, content[:3000]); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 2999, 3001} {
		if err := a.Write(at, content[:10]); !errors.Is(err, upgrade.ErrOffset) {
			t.Errorf("a piece at %d: %v, want ErrOffset", at, err)
		}
	}
	if _, err := a.Finish(); err == nil {
		t.Error("a part could be finished")
	}
	if err := a.Write(3000, append(content[3000:], 'x')); err == nil {
		t.Error("more than its size could be written")
	}
	b := arrival(t, s, o) // the link was cut
	if got, want := b.Offset(), int64(3000); got != want {
		t.Fatalf("it goes on at %d, want %d", got, want)
	}
	if err := a.Write(3000, content[3000:]); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the arrival before: %v, want ErrClosed", err)
	}
	if err := b.Write(3000, content[3000:]); err != nil {
		t.Fatal(err)
	}
	slot, err := b.Finish()
	if err != nil || slot != o.Slot {
		t.Fatalf("Finish = %v, %v, want %v", slot, err, o.Slot)
	}
	file := machine{data: dir}.file(slot)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes, %v, want what was sent", len(got), err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode is %v, %v, want 0755", info.Mode(), err)
	}
	if got := arrival(t, s, o).Offset(); got != o.Size {
		t.Errorf("what is here whole goes on at %d, want %d", got, o.Size)
	}
}

func TestWhatCameDamagedBeginsAnew(t *testing.T) {
	v := newVendor(t)
	content := []byte("a program of some length")
	for name, o := range map[string]upgrade.Offer{
		"another content": v.offer(t, "v1.3.0", content),
		"a signature of other content": func() upgrade.Offer {
			o := v.offer(t, "v1.3.0", []byte("A program of some length"))
			o.Signature = v.offer(t, "v1.3.0", content).Signature
			return o
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			a := arrival(t, enter(t, t.TempDir(), v), o)
			if err := a.Write(0, []byte("A program of some length")); err != nil {
				t.Fatal(err)
			}
			_, err := a.Finish()
			refused(t, err, upgrade.RefusedDamaged)
			if got := a.Offset(); got != 0 {
				t.Errorf("it goes on at %d, want 0", got)
			}
		})
	}
}

func TestAnotherOfferTakesTheRoomOfAnUnfinishedOne(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	s := enter(t, dir, v)
	if err := arrival(t, s, v.offer(t, "v1.3.0", []byte("one"))).Write(0, []byte("o")); err != nil {
		t.Fatal(err)
	}
	arrival(t, s, v.offer(t, "v1.4.0", []byte("other")))
	entries, err := os.ReadDir(filepath.Join(dir, "versions"))
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "v1.4.0-") {
		t.Errorf("there are %v, %v, want v1.4.0 alone", entries, err)
	}
}

func TestOnlyWhatIsWholeIsSelected(t *testing.T) {
	v := newVendor(t)
	s := enter(t, t.TempDir(), v)
	o := v.offer(t, "v1.3.0", []byte("one"))
	refused(t, s.Select(o.Slot, 1, nil), upgrade.RefusedMissing)
	a := arrival(t, s, o)
	refused(t, s.Select(o.Slot, 1, nil), upgrade.RefusedMissing)
	if err := a.Write(0, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := s.Select(o.Slot, 1, nil); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context(), nil); !errors.Is(err, upgrade.ErrRestart) {
		t.Errorf("Run = %v, want ErrRestart", err)
	}
}

func TestASecondProcessNeitherEntersNorTakesVersions(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	o := v.offer(t, "v1.3.0", []byte("one"))
	arrival(t, enter(t, dir, v), o)
	second := upgrade.Enter(upgrade.Place{Dir: dir, Program: "program", Version: "v1.2.0", Platform: upgrade.Platform()})
	second.Trust(v.file)
	_, err := second.Offer(o)
	refused(t, err, upgrade.RefusedUnusable)
}

func arrival(t *testing.T, s *upgrade.Slots, o upgrade.Offer) *upgrade.Arrival {
	t.Helper()
	a, err := s.Offer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}
