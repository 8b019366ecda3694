"""The sink `mqtt`: alerts, and how the service is, to an MQTT broker and Home Assistant."""

from __future__ import annotations

from edgelstm.sinks.mqtt.config import MqttConfig
from edgelstm.sinks.mqtt.sink import MqttSink

__all__ = ["MqttConfig", "MqttSink"]
