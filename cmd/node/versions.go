package node

import (
	"cmp"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

// versions are those of this program, as the hub may have them replaced.
type versions struct {
	slots  *upgrade.Slots
	health func() map[string]string
}

func (v versions) Offer(u edge.Upgrade) (member.Arrival, error) {
	slot := upgrade.Slot{Version: u.Version, Digest: u.Digest, Size: u.Size}
	a, err := v.slots.Offer(upgrade.Offer{Slot: slot, Platform: u.Platform, Signature: u.Signature, Downgrade: u.Downgrade, Order: u.Order})
	if err != nil {
		return nil, err
	}
	return arrival{a, v, u.Order}, nil
}

func (v versions) Leave(digest string) error { return v.slots.Revert(digest) }

func (v versions) Report() edge.UpgradeReport {
	is := v.slots.Report()
	r := edge.UpgradeReport{Version: settings.Version(), Platform: upgrade.Platform(), Trial: is.Trial, Installed: is.Installed}
	if is.Slot != nil {
		r.Version, r.Digest = cmp.Or(is.Slot.Version, r.Version), is.Slot.Digest
	}
	if f := is.Failed; f != nil {
		r.Failed = &edge.UpgradeFailure{Order: f.Order, Version: f.Slot.Version, Why: f.Why, Doubt: f.Doubt, Time: f.Time}
	}
	if is.Fault != nil {
		r.Fault = is.Fault.Error()
	}
	return r
}

// An arrival is a version that is selected as soon as it is whole.
type arrival struct {
	*upgrade.Arrival
	versions versions
	order    int64
}

func (a arrival) Finish() error {
	slot, err := a.Arrival.Finish()
	if err != nil {
		return err
	}
	return a.versions.slots.Select(slot, a.order, a.versions.health())
}
