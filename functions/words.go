package functions

import (
	"strings"
	"time"
)

// Words says the trigger in a line.
func (t Trigger) Words() string {
	switch {
	case t.MQTT != nil && t.MQTT.When != "":
		return "mqtt " + t.MQTT.Topic + " when " + t.MQTT.When
	case t.MQTT != nil:
		return "mqtt " + t.MQTT.Topic
	case t.Schedule != nil && t.Schedule.Cron != "":
		return strings.TrimSpace("cron " + t.Schedule.Cron + " " + t.Schedule.Timezone)
	case t.Schedule != nil:
		return "every " + time.Duration(t.Schedule.Every).String()
	case t.HTTP != nil:
		return "http " + strings.Join(t.HTTP.Methods, ",") + " " + t.HTTP.Path
	}
	return ""
}
