"""All five tables as Parquet."""

from tailrace import LakeTable

airlines = LakeTable("airlines", record="airlines")
airports = LakeTable("airports", record="airports")
planes = LakeTable("planes", record="planes")
weather = LakeTable("weather", record="weather")
flights = LakeTable("flights", record="flights")
