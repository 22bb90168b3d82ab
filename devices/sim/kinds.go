package sim

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Home returns a home. Its story: someone walks through the hall at night, and
// the lamp there ought to be told.
func Home(seed uint64) *World {
	walk := story{teller: "hall_motion", reacts: "hall_lamp", say: func(r *rand.Rand, s state) {
		s["occupancy"], s["illuminance"] = true, r.IntN(10)
	}}
	return newWorld(seed, "zigbee2mqtt", walk,
		motion("hall_motion", leave),
		motion("kitchen_motion", wander),
		motion("bath_motion", wander),
		lamp("hall_lamp"),
		lamp("kitchen_lamp"),
		lamp("living_lamp"),
		contact("front_door"),
		contact("bedroom_window"),
		climate("living_climate", 21.5, 45),
		climate("bedroom_climate", 18.5, 52),
		button("hall_button"),
		plug("washer_plug"),
	)
}

// Factory returns a small factory. Its story: the press runs hot, and the valve
// of its cooling ought to be told.
func Factory(seed uint64) *World {
	hot := story{teller: "press_temperature", reacts: "cooling_valve", say: func(r *rand.Rand, s state) {
		s["temperature"] = round(90+5*r.Float64(), 1)
	}}
	return newWorld(seed, "factory", hot,
		vibration("press_vibration", 2.1),
		vibration("saw_vibration", 4.4),
		thermometer("press_temperature", 62),
		climate("hall_climate", 19, 40),
		counter("line_counter"),
		valve("cooling_valve"),
		valve("air_valve"),
		plug("compressor_plug"),
	)
}

func motion(name string, live func(*rand.Rand, state)) *device {
	return &device{
		name: name, model: "RTCGQ11LM", every: 45 * time.Second, live: live,
		state: state{"occupancy": false, "illuminance": 120, "voltage": 3005},
	}
}

// wander is someone about the house by day.
func wander(r *rand.Rand, s state) {
	s["occupancy"] = !s["occupancy"].(bool)
	s["illuminance"] = 60 + r.IntN(300)
}

// leave is the end of a walk.
func leave(_ *rand.Rand, s state) { s["occupancy"] = false }

func lamp(name string) *device {
	return &device{
		name: name, model: "LED1836G9", state: state{"state": "OFF", "brightness": 254, "color_temp": 370},
		obeys: func(s, command state) {
			toggle(s, command, "ON", "OFF")
			number(s, command, "brightness", 0, 254)
			number(s, command, "color_temp", 150, 500)
		},
	}
}

func valve(name string) *device {
	return &device{
		name: name, model: "TS0001-V", state: state{"state": "CLOSE", "position": 0},
		obeys: func(s, command state) {
			toggle(s, command, "OPEN", "CLOSE")
			number(s, command, "position", 0, 100)
		},
	}
}

func plug(name string) *device {
	return &device{
		name: name, model: "TS011F", every: 10 * time.Second,
		state: state{"state": "ON", "power": 0.0, "voltage": 230, "current": 0.0, "energy": 12.4},
		live: func(r *rand.Rand, s state) {
			power := 0.0
			if s["state"] == "ON" {
				power = round(math.Abs(s["power"].(float64)+200*r.Float64()-90), 1)
			}
			voltage := 226 + r.IntN(9)
			s["power"], s["voltage"], s["current"] = power, voltage, round(power/float64(voltage), 2)
			s["energy"] = round(s["energy"].(float64)+power/360_000, 3)
		},
		obeys: func(s, command state) { toggle(s, command, "ON", "OFF") },
	}
}

func contact(name string) *device {
	return &device{
		name: name, model: "MCCGQ11LM", every: 5 * time.Minute, state: state{"contact": true, "voltage": 3015},
		live: func(_ *rand.Rand, s state) { s["contact"] = !s["contact"].(bool) },
	}
}

func climate(name string, temperature, humidity float64) *device {
	return &device{
		name: name, model: "WSDCGQ11LM", every: time.Minute, state: state{"temperature": temperature, "humidity": humidity, "pressure": 1013},
		live: func(r *rand.Rand, s state) {
			drift(r, s, "temperature", 0.3, 5, 40)
			drift(r, s, "humidity", 1, 20, 90)
		},
	}
}

// thermometer is for hot things, and says so when they have cooled down.
func thermometer(name string, temperature float64) *device {
	return &device{
		name: name, model: "TS0601-T", every: 5 * time.Second, state: state{"temperature": temperature},
		live: func(r *rand.Rand, s state) { s["temperature"] = round(temperature+8*r.Float64(), 1) },
	}
}

func button(name string) *device {
	return &device{
		name: name, model: "WXKG01LM", every: 3 * time.Minute, state: state{"action": ""},
		live: func(r *rand.Rand, s state) {
			s["action"] = []string{"single", "double", "hold"}[r.IntN(3)]
		},
	}
}

func vibration(name string, level float64) *device {
	return &device{
		name: name, model: "DJT11LM", every: 2 * time.Second, state: state{"vibration": true, "strength": level},
		live: func(r *rand.Rand, s state) { drift(r, s, "strength", 0.4, 0, 12) },
	}
}

func counter(name string) *device {
	return &device{
		name: name, model: "PULSE-1", every: 3 * time.Second, state: state{"count": 0},
		live: func(r *rand.Rand, s state) { s["count"] = s["count"].(int) + 1 + r.IntN(4) },
	}
}

// drift moves a value by up to step, within its bounds.
func drift(r *rand.Rand, s state, property string, step, least, most float64) {
	s[property] = round(min(max(s[property].(float64)+step*(2*r.Float64()-1), least), most), 2)
}

func round(x float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(x*p) / p
}

// toggle takes a command for a state of two words.
func toggle(s, command state, on, off string) {
	word, _ := command["state"].(string)
	switch word = strings.ToUpper(word); {
	case word == on || word == off:
		s["state"] = word
	case word == "TOGGLE" && s["state"] == on:
		s["state"] = off
	case word == "TOGGLE":
		s["state"] = on
	}
}

// number takes a command for a whole number, within its bounds.
func number(s, command state, property string, least, most float64) {
	if x, ok := command[property].(float64); ok {
		s[property] = int(min(max(x, least), most))
	}
}

// properties returns what a device exposes, sorted.
func properties(s state) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(p string) bool { return p == "last_seen" })
}

// access is Zigbee2MQTT's: 1 the device says it, 2 it can be set, 4 it can be asked for.
func access(d *device, property string) int {
	if d.obeys != nil && (property == "state" || property == "brightness" || property == "color_temp" || property == "position") {
		return 7
	}
	return 1
}

func kind(v any) string {
	switch v.(type) {
	case bool:
		return "binary"
	case string:
		return "enum"
	}
	return "numeric"
}
