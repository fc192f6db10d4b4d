"""One table for reads by key: every departure of a flight number in order of time, an airport with its weather."""

from tailrace import DynamoDBTable, Index

airlines = DynamoDBTable("flights", record="airlines", pk="CARRIER#{carrier}", sk="PROFILE")
airports = DynamoDBTable("flights", record="airports", pk="AIRPORT#{faa}", sk="PROFILE")
planes = DynamoDBTable("flights", record="planes", pk="PLANE#{tailnum}", sk="PROFILE")
weather = DynamoDBTable("flights", record="weather", pk="AIRPORT#{origin}", sk="WEATHER#{time_hour}")
departures = DynamoDBTable(
    "flights",
    record="flights",
    pk="FLIGHT#{carrier}#{flight}",
    sk="{time_hour}",
    indexes=(Index("cancelled", pk="{origin}", sk="{time_hour}#{carrier}#{flight}", when="cancelled"),),
)
