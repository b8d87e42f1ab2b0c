"""Sends the iris flowers to the topic `flowers`, as JSON, and one broken one among them.

pip install confluent-kafka scikit-learn
python send.py localhost:9092
"""

import json
import sys

from confluent_kafka import Producer
from sklearn.datasets import load_iris

flowers = load_iris()
producer = Producer({"bootstrap.servers": sys.argv[1], "enable.idempotence": True})
for number, (sepal_length, sepal_width, petal_length, petal_width) in enumerate(flowers.data):
    event = {
        "id": f"flower-{number}",
        "sepal_length": sepal_length,
        "sepal_width": sepal_width,
        "petal_length": petal_length,
        "petal_width": petal_width,
    }
    if number == 75:
        event["petal_width"] = "wide"
    producer.produce("flowers", key=event["id"], value=json.dumps(event))
producer.flush()
print(f"sent {len(flowers.data)} flowers")
